use crate::support::{NOW, World, ok};
use errand_core::{Hash, RunId};
use errand_tools::IMPORT_BYTES_MAX;
use serde_json::json;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

fn put(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

async fn refused(world: &World, files: Vec<PathBuf>) -> (&'static str, String) {
    let error = world.workspaces.import(world.run, files).await.unwrap_err();
    (error.code(), error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_copied_under_their_own_names() {
    let world = World::new();
    let folder = world.folder.path();
    let given = vec![put(folder, "in/data.csv", "a,b\n"), put(folder, "other/data.csv", "c\n"), put(folder, "in/.env", "x")];
    let (files, snapshot) = world.workspaces.import(world.run, given).await.unwrap();
    let listed: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.bytes)).collect();
    assert_eq!(listed, [("data.csv", 4), ("data-2.csv", 2), (".env", 1)]);
    assert_eq!(files[0].sha256, Hash::of(b"a,b\n"));
    assert_eq!(snapshot.unwrap().turn, 0);
    let read = world.call(0, "files", json!({"action": "read", "path": "data-2.csv"}), snapshot).await;
    assert_eq!(ok(&read), "c\n");
    assert_eq!(world.workspaces.import(world.run, Vec::new()).await.unwrap(), (Vec::new(), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_added_to_an_earlier_workspace() {
    let mut world = World::new();
    let folder = world.folder.path();
    let first = vec![put(folder, "a", "1"), put(folder, "b", "2")];
    let (_, base) = world.workspaces.import(world.run, first).await.unwrap();
    let next = vec![put(folder, "b", "3"), put(folder, "c", "4")];
    world.run = RunId::new(NOW, 8);
    let (files, snapshot) = world.workspaces.import_onto(world.run, base, next).await.unwrap();
    assert_eq!(files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(snapshot.unwrap().turn, 1);
    let found = world.call(0, "files", json!({"action": "search", "pattern": "."}), snapshot).await;
    assert!(ok(&found).contains("no line matches in 3 text files"), "{}", ok(&found));
    let read = world.call(1, "files", json!({"action": "read", "path": "b"}), snapshot).await;
    assert_eq!(ok(&read), "3\n");
    let same = vec![put(world.folder.path(), "c", "4")];
    assert_eq!(world.workspaces.import_onto(world.run, snapshot, same).await.unwrap().1, snapshot);
    assert_eq!(world.workspaces.import_onto(world.run, base, Vec::new()).await.unwrap(), (Vec::new(), base));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_taken_are_refused_before_anything_is_copied() {
    let world = World::new();
    let folder = world.folder.path();
    let good = put(folder, "good", "x");
    let (code, text) = refused(&world, vec![good.clone(), folder.join("nothing")]).await;
    assert_eq!(code, "file_missing");
    assert!(text.contains("nothing") && text.contains("check the path"), "{text}");
    assert_eq!(refused(&world, vec![good.join("below")]).await.0, "file_missing");
    assert_eq!(
        refused(&world, vec![folder.to_owned()]).await,
        ("file_not_plain", format!("{folder:?} is a folder, only plain files can be given to a run"))
    );
    assert_eq!(refused(&world, vec!["/dev/zero".into()]).await.0, "file_not_plain");
    assert_eq!(refused(&world, vec!["..".into()]).await.0, "file_name_unusable");
    assert_eq!(refused(&world, vec![good; 101]).await.0, "too_many_files");
    let odd = folder.join(OsStr::from_bytes(b"odd-\xff"));
    std::fs::write(&odd, "x").unwrap();
    assert_eq!(refused(&world, vec![odd]).await.0, "file_name_unusable");
    assert_eq!(refused(&world, vec![put(folder, "a\nb", "x")]).await.0, "file_name_unusable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_five_gigabytes_is_refused_at_once() {
    let world = World::new();
    let path = world.folder.path().join("huge");
    std::fs::File::create(&path).unwrap().set_len(5_000_000_000).unwrap();
    let (code, text) = refused(&world, vec![path]).await;
    assert_eq!(code, "file_too_large");
    assert!(text.contains("5000000000") && text.contains(&IMPORT_BYTES_MAX.to_string()), "{text}");
    assert_eq!(std::fs::read_dir(world.folder.path().join("sessions")).unwrap().count(), 0);
    assert!(world.blobs.hashes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_does_not_hold_the_run() {
    let world = World::new();
    let path = world.folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    assert_eq!(refused(&world, vec![path]).await.0, "file_not_plain");
}
