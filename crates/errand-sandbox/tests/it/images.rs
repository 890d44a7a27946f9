//! Images: made from small wheels that the test writes itself, so nothing is fetched from anywhere.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use errand_sandbox::{
    CancelToken, Cell, CellEnd, Error, Exec, IMAGE_DIR, Image, ImageLock, ImageProgress, Images, ImagesConfig, Language,
    Limits, SessionOptions, Sessions,
};

use crate::{World, world};

/// A wheel with a module, a program and a package's data: folder, name, version, the value of `NAME.VALUE`.
const WHEEL: &str = r#"
import hashlib, pathlib, sys, zipfile
folder, name, version, value = sys.argv[1:]
path = pathlib.Path(folder) / f"{name}-{version}-py3-none-any.whl"
info = f"{name}-{version}.dist-info"
files = {
    f"{name}/__init__.py": f"VALUE = {value!r}\ndef main():\n    print(VALUE)\ndef fail():\n    raise OSError('here')\n",
    f"{name}/data.txt": "data " * 20,
    f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{info}/entry_points.txt": f"[console_scripts]\n{name}-says = {name}:main\n",
}
files[f"{info}/RECORD"] = "".join(f"{one},,\n" for one in [*files, f"{info}/RECORD"])
with zipfile.ZipFile(path, "w") as wheel:
    for one, text in files.items():
        wheel.writestr(zipfile.ZipInfo(one), text)
print(hashlib.sha256(path.read_bytes()).hexdigest())
"#;

/// A folder of wheels, and images made of them alone.
struct Shop {
    world: World,
    wheels: PathBuf,
    images: Arc<Images>,
}

/// None, after saying why, where no image can be made.
fn shop() -> Option<Shop> {
    let world = world()?;
    let has_pip = |program: &str| {
        Command::new(program).args(["-m", "pip", "--version"]).output().is_ok_and(|output| output.status.success())
    };
    if !world.has_python() || !(has_pip("/usr/bin/python3") || has_pip("/usr/local/bin/python3")) {
        println!("skipped: this host has no python3 with pip");
        return None;
    }
    let wheels = world.root.path().join("wheels");
    std::fs::create_dir(&wheels).unwrap();
    let images = Arc::new(images(&world, &wheels));
    Some(Shop { world, wheels, images })
}

fn images(world: &World, wheels: &Path) -> Images {
    let pip_arguments = vec!["--no-index".into(), format!("--find-links={}", wheels.display()), "--no-cache-dir".into()];
    Images::at(world.root.path().join("images"), ImagesConfig { search_path: None, pip_arguments }).unwrap()
}

impl Shop {
    /// Makes a wheel; the line of a lock file for it.
    fn wheel(&self, name: &str, version: &str, value: &str) -> String {
        let output = Command::new("python3")
            .args(["-I", "-c", WHEEL])
            .arg(&self.wheels)
            .args([name, version, value])
            .output()
            .unwrap();
        let hash = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        format!("{name}=={version} --hash=sha256:{}\n", hash.trim())
    }

    fn build(&self, name: &str, lock: &str) -> Result<Image, Error> {
        self.images.build(&ImageLock::parse(name, lock).unwrap(), None, &mut |_| ())
    }

    /// What lies in the folder of images, but for lock files.
    fn left(&self) -> Vec<String> {
        let output =
            Command::new("find").args([".", "-mindepth", "2", "-maxdepth", "2"]).current_dir(self.root()).output().unwrap();
        let mut left: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect();
        left.retain(|line| !line.starts_with("./locks/"));
        left.sort();
        left
    }

    fn root(&self) -> PathBuf {
        self.world.root.path().join("images")
    }

    fn sessions(&self) -> Sessions {
        Sessions::at(self.world.root.path().join("with-images")).unwrap().with_images(Arc::clone(&self.images))
    }
}

fn of(image: &str) -> SessionOptions {
    SessionOptions { image: Some(image.into()), ..SessionOptions::default() }
}

#[test]
fn an_image_is_built_with_progress_shown_read_only_and_found_again() {
    let Some(shop) = shop() else { return };
    let lock = shop.wheel("first", "1.0", "one") + &shop.wheel("second", "2.0", "two");
    let mut told = Vec::new();
    let image = shop.images.build(&ImageLock::parse("mine", &lock).unwrap(), None, &mut |step| told.push(step)).unwrap();
    let fetching = |package: &str, number| ImageProgress::Fetching { package: package.into(), number, of: 2 };
    let steps = [
        fetching("first==1.0", 1),
        fetching("second==2.0", 2),
        ImageProgress::Unpacking,
        ImageProgress::Compiling,
        ImageProgress::Sealing,
    ];
    assert_eq!(told, steps);

    // A session of the image sees it in calls and kernels, also after it was opened again; another session does not.
    let sessions = shop.sessions();
    drop(sessions.create_with("a", &of("mine")).unwrap());
    let session = sessions.open("a").unwrap();
    assert_eq!(session.image().map(|image| image.digest().to_owned()), Some(image.digest().to_owned()));
    let run = |exec: Exec| shop.world.engine.run(&session, exec).unwrap();
    let code = "import first, second\nprint(first.VALUE, second.VALUE, first.__file__, first.__cached__)\nfirst.fail()";
    let outcome = run(Exec::python(code));
    let shown = outcome.stdout.text();
    assert!(
        shown.starts_with(&format!("one two {IMAGE_DIR}/first/__init__.py {IMAGE_DIR}/first/__pycache__/")),
        "{outcome:?}"
    );
    assert!(outcome.stderr.text().contains(&format!("{IMAGE_DIR}/first/__init__.py\", line 5")), "{outcome:?}");
    assert_eq!(run(Exec::shell("first-says")).stdout.text(), "one\n");
    let outcome = run(Exec::shell(format!(
        "cd {IMAGE_DIR}; touch new; mkdir d; rm first/data.txt; chmod 777 first; echo x >first/data.txt; cat first/data.txt"
    )));
    assert_eq!(outcome.stderr.text().matches("Read-only file system").count(), 5, "{outcome:?}");
    assert!(outcome.stdout.text().starts_with("data data"), "{outcome:?}");
    assert!(!shop.world.run(Exec::python("import first")).success());
    let session = Arc::new(session);
    let mut kernel = shop.world.engine.kernel(&session, Language::Python, &Limits::default()).unwrap();
    let cell = kernel.run(Cell::new("import second; second.VALUE")).unwrap();
    assert_eq!((cell.end, cell.value.as_deref()), (CellEnd::Done, Some("'two'")));
    drop(kernel);

    // A container of tier T2 shows it as well.
    for engine in crate::oci::engines() {
        let outcome = engine.run(&session, Exec::python("import first; print(first.__file__)")).unwrap();
        assert_eq!(outcome.stdout.text(), format!("{IMAGE_DIR}/first/__init__.py\n"), "{outcome:?}");
        let outcome = engine.run(&session, Exec::shell(format!("touch {IMAGE_DIR}/new"))).unwrap();
        assert_eq!(outcome.exit, errand_sandbox::Exit::Code(1), "{outcome:?}");
    }

    // Built again it is the same, and so is one of the same content with another name; both share a layer.
    let again = shop.build("mine", &lock).unwrap();
    assert_eq!((again.name(), again.digest(), again.path()), ("mine", image.digest(), image.path()));
    assert_eq!(shop.build("other", &format!("# another\n{lock}")).unwrap().path(), image.path());
    let list = shop.images.list().unwrap();
    assert_eq!(list.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["mine", "other"]);
    assert!(
        list.iter()
            .all(|one| one.digest == image.digest() && one.packages == ["first==1.0", "second==2.0"] && one.files > 9)
    );
    assert_eq!(shop.left().len(), 5, "{:?}", shop.left());
}

#[test]
fn an_engine_with_an_image_shows_it_to_every_box_unless_the_session_has_its_own() {
    let Some(shop) = shop() else { return };
    let image = shop.build("mine", &shop.wheel("first", "1.0", "one")).unwrap();
    drop(shop.build("other", &shop.wheel("first", "2.0", "two")).unwrap());
    let engine = Arc::new(shop.world.engine.dressed(image.clone(), vec!["first".into()]));
    assert_eq!(engine.image().map(Image::digest), Some(image.digest()));
    let sessions = shop.sessions();
    let (bare, own) = (sessions.create("bare").unwrap(), sessions.create_with("own", &of("other")).unwrap());
    let value = |session: &errand_sandbox::Session| {
        engine.run(session, Exec::python("import first; print(first.VALUE)")).unwrap().stdout.text()
    };
    assert_eq!((value(&bare).as_str(), value(&own).as_str()), ("one\n", "two\n"));
    // Boxes that were made ahead are of the image too, and it cannot be changed in them.
    assert!(engine.is_ahead_within(std::time::Duration::from_secs(20)));
    let exec = Exec::shell(format!("first-says; touch {IMAGE_DIR}/new"));
    let outcome = engine.run(&bare, exec).unwrap();
    assert!(outcome.stdout.text() == "one\n" && outcome.stderr.text().contains("Read-only file system"), "{outcome:?}");
    assert_eq!(value(&own), "two\n");
    let bare = Arc::new(bare);
    let mut kernel = engine.kernel(&bare, Language::Python, &Limits::default()).unwrap();
    assert_eq!(kernel.run(Cell::new("import first; first.VALUE")).unwrap().value.as_deref(), Some("'one'"));
    drop(kernel);
    // The engine it was made from shows none, and the image is in use while the other lives.
    assert!(!shop.world.run(Exec::python("import first")).success());
    drop((image, bare));
    assert_eq!(shop.images.remove("mine").unwrap_err().code(), "sandbox_image_in_use");
    drop(engine);
    shop.images.remove("mine").unwrap();
}

#[test]
fn an_image_is_removed_when_nobody_has_it_and_unknown_ones_are_told() {
    let Some(shop) = shop() else { return };
    let lock = shop.wheel("first", "1.0", "one");
    let sessions = shop.sessions();
    let code = |result: Result<errand_sandbox::Session, Error>| result.unwrap_err().code();
    assert_eq!(code(sessions.create_with("a", &of("mine"))), "sandbox_image_unknown");
    assert_eq!(code(sessions.create_with("a", &of("../x"))), "sandbox_image_unknown");
    assert_eq!(code(sessions.create_with("a", &of("data"))), "sandbox_image_missing");
    assert!(sessions.list().unwrap().is_empty(), "what was refused was not made");
    assert_eq!(shop.images.remove("mine").unwrap_err().code(), "sandbox_image_unknown");
    drop(shop.build("mine", &lock).unwrap());
    let session = sessions.create_with("a", &of("mine")).unwrap();
    assert_eq!(shop.images.remove("mine").unwrap_err().code(), "sandbox_image_in_use");
    assert!(shop.world.engine.run(&session, Exec::python("import first")).unwrap().success());
    drop(session);
    shop.images.remove("mine").unwrap();
    assert_eq!(shop.left(), Vec::<String>::new());
    // The session has its files still, and runs nothing until its image is there.
    let mut session = sessions.open("a").unwrap();
    session.put_file("kept", b"x").unwrap();
    assert_eq!(session.lacks_image(), Some("mine"));
    assert_eq!(shop.world.engine.run(&session, Exec::shell("true")).unwrap_err().code(), "sandbox_image_missing");
    session.take_image(shop.build("mine", &lock).unwrap());
    assert!(shop.world.engine.run(&session, Exec::python("import first")).unwrap().success());
    drop(session);
    assert_eq!(shop.world.shell("true").exit, errand_sandbox::Exit::Code(0));

    // Built anew from another lock, the layer from before goes, unless a session has it.
    let old = shop.build("mine", &lock).unwrap();
    let new = shop.build("mine", &shop.wheel("first", "1.1", "more")).unwrap();
    assert!(old.path() != new.path() && old.path().is_dir() && new.path().is_dir());
    drop((old, new));
    drop(shop.build("mine", &lock).unwrap());
    let layers = shop.left().into_iter().filter(|path| path.starts_with("./layers/")).count();
    assert_eq!(layers, 1, "{:?}", shop.left());
    // A record that was damaged is none; building heals it.
    std::fs::write(shop.root().join("names/mine.json"), "{").unwrap();
    assert_eq!(shop.images.named("mine").unwrap_err().code(), "sandbox_image_missing");
    shop.images.ensure("mine", None, &mut |_| ()).unwrap();
    let mut record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(shop.root().join("names/mine.json")).unwrap()).unwrap();
    record["python_path"] = "/opt/old/python3".into();
    std::fs::write(shop.root().join("names/mine.json"), record.to_string()).unwrap();
    assert_eq!(shop.images.named("mine").unwrap_err().code(), "sandbox_image_missing");
}

#[test]
fn what_is_not_as_the_lock_says_makes_no_image() {
    let Some(shop) = shop() else { return };
    let good = shop.wheel("first", "1.0", "one");
    let (name, hash) = good.rsplit_once(':').unwrap();
    let forged = format!("{name}:{}{}", if hash.starts_with('0') { '1' } else { '0' }, &hash[1..]);
    let absent = good.replace("first==1.0", "first==7.0");
    for (lock, code) in [(forged, "sandbox_image_hash"), (absent, "sandbox_image_no_wheel")] {
        let error = shop.build("mine", &lock).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(shop.left(), Vec::<String>::new());
    }
    // A package that only has source is not built: its code would run on the host.
    std::fs::write(shop.wheels.join("source-1.0.tar.gz"), "none").unwrap();
    let error = shop.build("mine", &good.replace("first==1.0", "source==1.0")).unwrap_err();
    assert_eq!(error.code(), "sandbox_image_no_wheel", "{error}");
    // Nobody listens on that port of the loopback.
    let pip_arguments = vec!["--index-url=http://127.0.0.1:9/simple".into(), "--retries=0".into(), "--no-cache-dir".into()];
    let unreachable = ImagesConfig { search_path: None, pip_arguments };
    let images = Images::at(shop.root(), unreachable).unwrap();
    let error = images.build(&ImageLock::parse("mine", &good).unwrap(), None, &mut |_| ()).unwrap_err();
    assert_eq!(error.code(), "sandbox_image_network", "{error}");
    assert_eq!(shop.left(), Vec::<String>::new());
    // An image from before stays as it was.
    let before = shop.build("mine", &good).unwrap();
    assert!(shop.build("mine", &good.replace("1.0", "7.0")).is_err());
    assert_eq!(shop.images.named("mine").unwrap().digest(), before.digest());
}

#[test]
fn two_builds_at_once_make_one_image_and_a_cancelled_one_leaves_nothing() {
    let Some(shop) = shop() else { return };
    let lock = ImageLock::parse("mine", &shop.wheel("first", "1.0", "one")).unwrap();
    let cancel = CancelToken::new().unwrap();
    let stop = &mut |step| {
        if matches!(step, ImageProgress::Fetching { .. }) {
            cancel.cancel();
        }
    };
    let error = shop.images.build(&lock, Some(&cancel), stop).unwrap_err();
    assert!(error.code() == "sandbox_image_failed" && error.to_string().contains("cancelled"), "{error}");
    assert_eq!(shop.left(), Vec::<String>::new());

    // The second begins once the first is under way, and waits for it.
    let (begun, waiting) = std::sync::mpsc::channel();
    let (waits, go_on) = std::sync::mpsc::channel();
    let told = std::thread::scope(|scope| {
        let (images, lock) = (&shop.images, &lock);
        let first = scope.spawn(move || {
            let mut step = |step| {
                if step == ImageProgress::Unpacking {
                    begun.send(()).unwrap();
                    go_on.recv().unwrap();
                }
            };
            images.build(lock, None, &mut step).map(|image| image.digest().to_owned())
        });
        waiting.recv().unwrap();
        let mut told = Vec::new();
        let image = crate::images::images(&shop.world, &shop.wheels).build(lock, None, &mut |step| {
            told.push(step);
            waits.send(()).unwrap();
        });
        assert_eq!(image.unwrap().digest(), first.join().unwrap().unwrap());
        told
    });
    assert_eq!(told, [ImageProgress::Waiting]);
    assert_eq!(shop.left().len(), 3, "{:?}", shop.left());
}
