use crate::support::{World, ok};
use errand_core::{Hash, Snapshot};
use errand_engine::ports::{Blobs, PortError, Signer};
use errand_tools::{FileMade, fetch_all, fetch_file, file_links, files_made};
use serde_json::json;
use std::time::Duration;

/// A run that was given `in.txt` and `same.txt`, changed the one, and made `out/report.md`.
async fn run(world: &World) -> (Snapshot, Snapshot) {
    let given = ["in.txt", "same.txt"].map(|name| {
        let path = world.folder.path().join(name);
        std::fs::write(&path, "given").unwrap();
        path
    });
    let (_, first) = world.workspaces.import(world.run, given.into()).await.unwrap();
    let changed =
        world.call(0, "files", json!({"action": "edit", "path": "in.txt", "old": "given", "new": "changed"}), first).await;
    let large = "line\n".repeat(40_000);
    let made =
        world.call(1, "files", json!({"action": "write", "path": "out/report.md", "text": large}), changed.workspace).await;
    ok(&made);
    (first.unwrap(), made.workspace.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_made_is_listed_and_fetched_without_its_folder() {
    let world = World::new();
    let (first, last) = run(&world).await;
    world.workspaces_gone().await;
    let made = files_made(&*world.blobs, Some(first), Some(last)).await.unwrap();
    let wanted = [
        FileMade { path: "in.txt".into(), bytes: 7, changed: true },
        FileMade { path: "out/report.md".into(), bytes: 200_000, changed: false },
    ];
    assert_eq!(made, wanted);
    assert_eq!(files_made(&*world.blobs, Some(last), Some(last)).await.unwrap(), []);
    let mut bytes = Vec::new();
    assert_eq!(fetch_file(&*world.blobs, &last.manifest, "in.txt", &mut bytes).await.unwrap(), 7);
    assert_eq!(bytes, b"changed");
    let error = fetch_file(&*world.blobs, &last.manifest, "../in.txt", &mut bytes).await.unwrap_err();
    assert_eq!(error.code(), "no_such_file");
}

#[tokio::test(flavor = "multi_thread")]
async fn fetching_writes_over_nothing_and_follows_no_link() {
    let world = World::new();
    let (_, last) = run(&world).await;
    let to = world.folder.path().join("fetched");
    let fetched = fetch_all(&*world.blobs, &last.manifest, None, &to).await.unwrap();
    assert_eq!(fetched.written, [to.join("in.txt"), to.join("out/report.md"), to.join("same.txt")]);
    assert_eq!(std::fs::read(to.join("out/report.md")).unwrap().len(), 200_000);
    let again = fetch_all(&*world.blobs, &last.manifest, None, &to).await.unwrap_err();
    assert_eq!(again.code(), "file_not_written");
    assert!(again.to_string().contains("exists already"), "{again}");

    let trap = world.folder.path().join("trap");
    let outside = world.folder.path().join("outside");
    std::fs::create_dir_all(&trap).unwrap();
    std::fs::create_dir_all(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, trap.join("out")).unwrap();
    let only = ["out/report.md".to_owned()];
    let error = fetch_all(&*world.blobs, &last.manifest, Some(&only), &trap).await.unwrap_err();
    assert_eq!(error.code(), "file_not_written");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);

    let unknown = ["nothing".to_owned()];
    let error = fetch_all(&*world.blobs, &last.manifest, Some(&unknown), &to).await.unwrap_err();
    assert_eq!(error.code(), "no_such_file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_blob_is_named() {
    let world = World::new();
    let (_, last) = run(&world).await;
    world.blobs.remove(&errand_core::Hash::of(b"changed"));
    let error = fetch_file(&*world.blobs, &last.manifest, "in.txt", &mut Vec::new()).await.unwrap_err();
    assert_eq!(error.code(), "blob_unavailable");
    world.blobs.remove(&last.manifest);
    assert_eq!(files_made(&*world.blobs, None, Some(last)).await.unwrap_err().code(), "blob_unavailable");
}

/// Blobs of a store that signs.
struct Signing(std::sync::Arc<crate::support::MemoryBlobs>);

#[async_trait::async_trait]
impl Blobs for Signing {
    async fn put(&self, bytes: &[u8]) -> Result<Hash, PortError> {
        self.0.put(bytes).await
    }

    async fn get(&self, hash: &Hash) -> Result<Option<Vec<u8>>, PortError> {
        self.0.get(hash).await
    }

    fn signer(&self) -> Option<&dyn Signer> {
        Some(self)
    }
}

#[async_trait::async_trait]
impl Signer for Signing {
    async fn link(&self, hash: &Hash, valid: Duration) -> Result<String, PortError> {
        Ok(format!("https://store.test/{hash}?for={}", valid.as_secs()))
    }
}

#[tokio::test]
async fn files_have_links_only_where_the_store_signs() {
    let world = World::new();
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(world.folder.path().join("large.bin"), &large).unwrap();
    let (_, last) = world.workspaces.import(world.run, vec![world.folder.path().join("large.bin")]).await.unwrap();
    let manifest = last.unwrap().manifest;
    let hour = Duration::from_secs(3600);
    assert_eq!(file_links(&*world.blobs, &manifest, "large.bin", hour).await.unwrap(), None);
    let signing = Signing(world.blobs.clone());
    let links = file_links(&signing, &manifest, "large.bin", hour).await.unwrap().unwrap();
    let mut fetched = Vec::new();
    for link in &links {
        let hash: Hash = link.url.trim_start_matches("https://store.test/").trim_end_matches("?for=3600").parse().unwrap();
        let bytes = world.blobs.get(&hash).await.unwrap().unwrap();
        assert_eq!(bytes.len() as u64, link.bytes);
        fetched.extend(bytes);
    }
    assert!(links.len() > 2 && fetched == large);
    assert_eq!(file_links(&signing, &manifest, "gone", hour).await.unwrap_err().code(), "no_such_file");
}
