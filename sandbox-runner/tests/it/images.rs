//! Images as an operator makes them, where things go wrong.

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const HASH: &str = "--hash=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// A wheel with a file of four megabytes: its folder. Prints its hash.
const LARGE_WHEEL: &str = r#"
import hashlib, pathlib, random, sys, zipfile
path = pathlib.Path(sys.argv[1]) / "large-1.0-py3-none-any.whl"
info = "large-1.0.dist-info"
with zipfile.ZipFile(path, "w") as wheel:
    wheel.writestr("large/data", random.Random(1).randbytes(4 << 20))
    wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: large\nVersion: 1.0\n")
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(f"{info}/RECORD", f"large/data,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
print(hashlib.sha256(path.read_bytes()).hexdigest())
"#;

fn image(images: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox-runner"));
    command.arg("image").arg("--images").arg(images);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn has_pip() -> bool {
    let works =
        |python: &str| Command::new(python).args(["-m", "pip", "--version"]).output().is_ok_and(|it| it.status.success());
    let found = works("/usr/bin/python3") || works("python3");
    if !found {
        println!("skipped: this host has no python3 with pip");
    }
    found
}

#[test]
fn a_killed_build_leaves_no_image_and_its_rest_goes_at_the_next() {
    if !has_pip() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let (images, lock) = (root.path().join("images"), root.path().join("lock"));
    std::fs::write(&lock, format!("thing==1 {HASH}\n")).unwrap();
    // An index that takes the question and never answers.
    let index = TcpListener::bind("127.0.0.1:0").unwrap();
    let option = format!("--pip-option=--index-url=http://{}/simple", index.local_addr().unwrap());
    let mut build = image(&images);
    build.args(["build", "mine", &option, "--lock"]).arg(&lock).stdout(Stdio::null()).stderr(Stdio::null());
    let mut build = build.spawn().unwrap();
    let (mut connection, _) = index.accept().unwrap();
    let _ = connection.read(&mut [0; 64]).unwrap();
    build.kill().unwrap();
    build.wait().unwrap();
    assert!(images.join("building/mine/tree").is_dir());
    assert!(image(&images).arg("list").output().unwrap().stdout.is_empty());
    // Its pip gives up now; until then the next build would wait for it.
    drop((connection, index));
    let next = image(&images).args(["build", "mine", "--pip-option=--no-index", "--lock"]).arg(&lock).output().unwrap();
    assert!(!next.status.success() && said(&next).contains("[sandbox_image_no_wheel]"), "{}", said(&next));
    assert!(!images.join("building/mine").exists());
    assert!(image(&images).arg("list").output().unwrap().stdout.is_empty());
}

#[test]
fn a_full_disk_is_told_and_nothing_is_left_on_it() {
    if !has_pip() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let made = Command::new("python3").args(["-I", "-c", LARGE_WHEEL]).arg(root.path()).output().unwrap();
    let hash = String::from_utf8(made.stdout).unwrap();
    std::fs::write(root.path().join("lock"), format!("large==1.0 --hash=sha256:{}\n", hash.trim())).unwrap();
    std::fs::create_dir(root.path().join("disk")).unwrap();
    // A file system in memory of that size, in a mount namespace that goes with its shell.
    let on_disk = |size: &str| {
        let script = format!(
            "mount -t tmpfs -o size={size} none disk && mkdir -m 700 disk/images
            {runner} image --images disk/images build mine --lock lock --pip-option=--no-index \\
                --pip-option=--no-cache-dir --pip-option=--find-links=$PWD
            cd disk/images; find layers names building -mindepth 1 -maxdepth 1",
            runner = env!("CARGO_BIN_EXE_sandbox-runner")
        );
        let options = ["--user", "--map-root-user", "--mount", "sh", "-c", &script];
        Command::new("unshare").args(options).current_dir(root.path()).output().unwrap()
    };
    if !Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).status().is_ok_and(|it| it.success())
    {
        println!("skipped: this host makes no user namespaces");
        return;
    }
    let room = on_disk("40m");
    assert_eq!(String::from_utf8_lossy(&room.stdout).lines().count(), 4, "{}", said(&room));
    for size in ["3m", "64k"] {
        let full = on_disk(size);
        assert!(said(&full).contains("[sandbox_image_no_room]"), "{size}: {}", said(&full));
        assert_eq!(String::from_utf8_lossy(&full.stdout), "", "{size}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_code() {
    let root = tempfile::tempdir().unwrap();
    let images = root.path().join("images");
    let lock = root.path().join("lock");
    std::fs::write(&lock, "numpy\n").unwrap();
    for (arguments, code) in [
        (&["rm", "data"][..], "sandbox_image_unknown"),
        (&["build", "nobody-knows"], "sandbox_image_unknown"),
        (&["build", "../x"], "sandbox_image_unknown"),
        (&["build", "x", "--lock", "/no/such/file"], "sandbox_io"),
        (&["build", "x", "--lock", lock.to_str().unwrap()], "sandbox_image_lock"),
    ] {
        let output = image(&images).args(arguments).output().unwrap();
        assert!(said(&output).starts_with(&format!("error [{code}]: ")), "{arguments:?}: {}", said(&output));
        assert_eq!(output.status.code(), Some(1));
    }
    assert!(image(&images).args(["list", "--json"]).output().unwrap().stdout.is_empty());
}
