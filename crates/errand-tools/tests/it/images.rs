//! Images that the code of runs sees: made of a small wheel that the test writes itself, so nothing is fetched from anywhere.

use crate::support::{World, boxes, error, ok};
use errand_sandbox::{CancelToken, ImageLock, Images, ImagesConfig};
use errand_tools::{BoxSettings, OnImage};
use serde_json::json;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Writes a wheel of one module `packed` whose `VALUE` is the last argument; prints its digest.
const WHEEL: &str = r#"
import hashlib, pathlib, sys, zipfile
folder, version, value = sys.argv[1:]
info = f"packed-{version}.dist-info"
files = {
    "packed.py": f"VALUE = {value!r}\n",
    f"{info}/METADATA": f"Metadata-Version: 2.1\nName: packed\nVersion: {version}\n",
    f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
files[f"{info}/RECORD"] = "".join(f"{one},,\n" for one in [*files, f"{info}/RECORD"])
path = pathlib.Path(folder) / f"packed-{version}-py3-none-any.whl"
with zipfile.ZipFile(path, "w") as wheel:
    for one, text in files.items():
        wheel.writestr(zipfile.ZipInfo(one), text)
print(hashlib.sha256(path.read_bytes()).hexdigest())
"#;

/// A folder of wheels, and images made of them alone.
struct Shop {
    folder: TempDir,
    images: Arc<Images>,
    told: Arc<Mutex<Vec<String>>>,
}

/// None, after saying why, where no image can be made.
fn shop() -> Option<Shop> {
    if !boxes() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let images = Images::at(folder.path().join("images"), config(folder.path())).unwrap();
    if !images.can_have("data", &[]) {
        println!("skipped: this host has no python3 with pip");
        return None;
    }
    Some(Shop { folder, images: Arc::new(images), told: Arc::default() })
}

fn config(wheels: &Path) -> ImagesConfig {
    let pip_arguments = vec!["--no-index".into(), format!("--find-links={}", wheels.display()), "--no-cache-dir".into()];
    ImagesConfig { search_path: None, pip_arguments }
}

impl Shop {
    fn lock(&self, version: &str, value: &str) -> ImageLock {
        let made = Command::new("python3").args(["-I", "-c", WHEEL]).arg(self.folder.path()).args([version, value]).output();
        let hash = String::from_utf8(made.unwrap().stdout).unwrap();
        ImageLock::parse("mine", &format!("packed=={version} --hash=sha256:{}", hash.trim())).unwrap()
    }

    fn build(&self, version: &str, value: &str) {
        self.images.build(&self.lock(version, value), None, &mut |_| ()).unwrap();
    }

    /// As if it had been built once, and its layer were gone: what it is made from is known.
    fn forget(&self) {
        std::fs::remove_file(self.folder.path().join("images/names/mine.json")).unwrap();
    }

    fn settings(&self) -> BoxSettings {
        let told = Arc::clone(&self.told);
        let on_image = OnImage::new(move |name, step| told.lock().unwrap().push(format!("{name}: {step}")));
        let images = Some(Arc::clone(&self.images));
        BoxSettings { images, image: Some("mine".into()), on_image, ..BoxSettings::default() }
    }
}

const VALUE: &str = "import packed; packed.VALUE";

#[tokio::test(flavor = "multi_thread")]
async fn code_of_a_run_sees_its_image_which_is_made_at_first_use() {
    let Some(shop) = shop() else { return };
    shop.build("1.0", "one");
    shop.forget();
    let world = World::with_boxes(shop.settings());
    let reply = world.call(0, "python", json!({"code": VALUE}), None).await;
    assert!(ok(&reply).contains("value: 'one'"), "{reply:?}");
    let told = shop.told.lock().unwrap().clone();
    assert_eq!(told.first().map(String::as_str), Some("mine: fetching packed==1.0 (1 of 1)"), "{told:?}");
    // The shell has it too, and programs in boxes of their own.
    let reply = world.call(1, "shell", json!({"script": "python3 -c 'import packed; print(packed.__file__)'"}), None).await;
    assert!(ok(&reply).contains("/opt/image/packed.py"), "{reply:?}");
    // Made anew from another list, interpreters that begin see that; the one that is there keeps what it began with.
    shop.build("2.0", "two");
    let reply = world.call(2, "python", json!({"code": VALUE}), None).await;
    assert!(ok(&reply).contains("value: 'one'"), "{reply:?}");
    let reply = world.call(3, "python", json!({"code": VALUE, "fresh": true}), None).await;
    assert!(ok(&reply).contains("value: 'two'"), "{reply:?}");
    // Another run, without the setting, sees none.
    let reply = World::new().call(0, "python", json!({"code": VALUE}), None).await;
    assert!(error(&reply).1.contains("No module named 'packed'"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kernels_made_ahead_are_of_the_image_and_of_the_one_there_is_now() {
    let Some(shop) = shop() else { return };
    shop.build("1.0", "one");
    let world = World::with_boxes(BoxSettings { warm: 1, ..shop.settings() });
    world.workspaces.prepare(&CancelToken::new().unwrap()).unwrap();
    filled(&world).await;
    let reply = world.call(0, "python", json!({"code": VALUE}), None).await;
    assert!(ok(&reply).contains("value: 'one'"), "{reply:?}");
    let stats = world.workspaces.pool_stats().unwrap();
    assert_eq!((stats.claims, stats.misses), (1, 0), "{stats:?}");
    assert!(stats.forked >= 1 && stats.no_zygote.is_none(), "{stats:?}");
    world.workspaces_gone().await;
    shop.build("2.0", "two");
    let reply = world.call(1, "python", json!({"code": VALUE}), None).await;
    assert!(ok(&reply).contains("value: 'two'"), "{reply:?}");
    // The pool is a new one.
    filled(&world).await;
    world.workspaces_gone().await;
    let reply = world.call(2, "python", json!({"code": VALUE}), None).await;
    assert!(ok(&reply).contains("value: 'two'"), "{reply:?}");
    let stats = world.workspaces.pool_stats().unwrap();
    assert_eq!((stats.claims, stats.misses), (2, 1), "{stats:?}");
}

async fn filled(world: &World) {
    let begun = Instant::now();
    while world.workspaces.pool_stats().is_none_or(|stats| stats.parked < 2) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", world.workspaces.pool_stats());
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_had_is_told_and_costs_nothing_else() {
    let Some(shop) = shop() else { return };
    let world = World::with_boxes(shop.settings());
    let kept = world.call(0, "files", json!({"action": "write", "path": "kept", "text": "x"}), None).await.workspace;
    let reply = world.call(1, "python", json!({"code": VALUE}), kept).await;
    assert_eq!(error(&reply).0, "sandbox_image_unknown", "{reply:?}");
    // Its wheel is gone.
    shop.build("1.0", "one");
    shop.forget();
    std::fs::remove_file(shop.folder.path().join("packed-1.0-py3-none-any.whl")).unwrap();
    let reply = world.call(2, "python", json!({"code": VALUE}), kept).await;
    assert_eq!(error(&reply).0, "sandbox_image_no_wheel", "{reply:?}");
    assert!(error(&reply).1.contains("image `mine` cannot be had"), "{reply:?}");
    // Files are there, other tools work, and once it can be had the same call does.
    shop.lock("1.0", "one");
    let reply = world.call(3, "python", json!({"code": "import packed; packed.VALUE, open('kept').read()"}), kept).await;
    assert!(ok(&reply).contains("value: ('one', 'x')"), "{reply:?}");
    let nowhere = World::with_boxes(BoxSettings { images: None, ..shop.settings() });
    let reply = nowhere.call(0, "python", json!({"code": VALUE}), None).await;
    assert_eq!(error(&reply).0, "sandbox_image_missing", "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_cannot_wait_says_so_and_the_next_finds_the_image() {
    let Some(shop) = shop() else { return };
    shop.build("1.0", "one");
    shop.forget();
    let world = World::with_boxes(shop.settings());
    // Another process makes it, and takes its time.
    let other = File::open(shop.folder.path().join("images/locks/mine")).unwrap();
    other.lock().unwrap();
    let reply = world.call_with(0, "python", json!({"code": VALUE}), None, |job| job.timeout_ms = 5_600).await;
    let (code, text) = error(&reply);
    assert!(code == "sandbox_image_building" && text.contains("image `mine` is being made"), "{reply:?}");
    other.unlock().unwrap();
    let reply = world.call(1, "python", json!({"code": VALUE}), None).await;
    assert!(ok(&reply).contains("value: 'one'"), "{reply:?}");
}
