use super::{TestWorld, begin, code, own, read, sample, step};
use crate::{DataFolder, Mode};
use errand_core::{Item, ItemBody, ItemKey};
use errand_engine::ports::{Commit, PortError, Put, RunFilter, Store, World};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

/// A folder with one run of three records, closed in good order.
async fn filled() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let opened = own(folder.path(), &TestWorld::new()).unwrap();
    let mut log = begin(opened.store(), 1).await;
    step(opened.store(), &mut log, 0, false).await;
    step(opened.store(), &mut log, 0, false).await;
    opened.close().await.unwrap();
    folder
}

fn database(folder: &Path) -> PathBuf {
    folder.join("errand.db")
}

async fn records(path: &Path) -> usize {
    let opened = read(path).unwrap();
    opened.store().load(sample::run(1)).await.unwrap().unwrap().log.records.len()
}

fn refusal(error: PortError) -> (&'static str, String) {
    (error.code(), error.to_string())
}

/// A file system mounted for the test; `None` (and why, on the screen) where this process may not mount.
struct Mount {
    folder: TempDir,
}

impl Mount {
    fn tmpfs(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "errand-test"]).arg(folder.path());
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self { folder }),
            Ok(output) => skip(&String::from_utf8_lossy(&output.stderr)),
            Err(error) => skip(&error.to_string()),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn make_read_only(&self) {
        let mut mount = Command::new("mount");
        assert!(mount.args(["-o", "remount,ro"]).arg(self.folder.path()).status().unwrap().success());
    }
}

fn skip(reason: &str) -> Option<Mount> {
    println!("skipped: a file system cannot be mounted here ({}); run as root to test this", reason.trim());
    None
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

/// What schema 1 was, from this one.
const TO_1: &str = "
    DROP INDEX runs_by_tenant;
    DROP INDEX runs_by_status;
    ALTER TABLE runs DROP COLUMN tenant;
    CREATE INDEX runs_by_status ON runs (status, run);
    PRAGMA user_version = 1;
";

#[tokio::test]
async fn an_older_database_is_brought_up_to_date_by_its_owner() {
    let folder = filled().await;
    let connection = rusqlite::Connection::open(database(folder.path())).unwrap();
    connection.execute_batch(TO_1).unwrap();
    connection.close().unwrap();
    assert_eq!(code(read(folder.path())).0, "data_older");
    for _ in 0..2 {
        own(folder.path(), &TestWorld::new()).unwrap().close().await.unwrap();
        assert_eq!(records(folder.path()).await, 3);
        let done = RunFilter { status: Some("running".to_owned()), ..RunFilter::default() };
        for (filter, runs) in [(RunFilter::default(), 1), (done, 1), (of("other"), 0)] {
            let page = read(folder.path()).unwrap().store().list(&filter).await.unwrap();
            assert_eq!(page.runs.len(), runs, "{filter:?}");
        }
    }
}

fn of(tenant: &str) -> RunFilter {
    RunFilter { tenant: tenant.parse().unwrap(), ..RunFilter::default() }
}

#[tokio::test]
async fn a_missing_folder_is_made_by_its_owner_and_told_to_a_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b");
    assert_eq!(code(read(&path)).0, "data_missing");
    assert_eq!(code(read(folder.path())).0, "data_missing", "an empty folder holds no runs");
    let opened = own(&path, &TestWorld::new()).unwrap();
    begin(opened.store(), 1).await;
    opened.blobs().put_blocking(b"x").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for file in ["errand.db", "errand.db-wal", "errand.db-shm", "lock"] {
        assert_eq!(mode(&path.join(file)), 0o600, "{file}");
    }
    assert_eq!(mode(&opened.blobs().path(&errand_core::Hash::of(b"x"))), 0o600);
    assert_eq!(mode(&path.join("blobs")), 0o700);
}

#[tokio::test]
async fn what_is_not_a_data_folder_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "mine").unwrap();
    for path in [&file, &file.join("below")] {
        assert_eq!(code(own(path, &TestWorld::new())).0, "data_not_a_folder");
        assert_eq!(code(read(path)).0, "data_not_a_folder");
    }
    let (refused, text) = code(own(folder.path(), &TestWorld::new()));
    assert_eq!(refused, "data_not_errand");
    assert!(text.contains("`file`"), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is put beside what is not ours");

    let other = tempfile::tempdir().unwrap();
    let connection = rusqlite::Connection::open(database(other.path())).unwrap();
    connection.execute_batch("CREATE TABLE theirs (id); INSERT INTO theirs VALUES (1)").unwrap();
    assert_eq!(code(own(other.path(), &TestWorld::new())).0, "data_not_errand");
    assert_eq!(code(read(other.path())).0, "data_not_errand");
    assert_eq!(connection.query_row("SELECT count(*) FROM theirs", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}

#[tokio::test]
async fn a_second_owner_is_told_who_holds_the_folder_and_readers_work_beside() {
    let folder = filled().await;
    let world = TestWorld::new();
    world.set(77);
    let owner = own(folder.path(), &world).unwrap();
    match own(folder.path(), &world).err().unwrap() {
        crate::Error::Held { pid, command, since, .. } => {
            assert_eq!((pid, command.as_str(), since), (std::process::id(), "errand test", sample::at(77)));
        }
        other => panic!("{other}"),
    }
    let (refused, text) = code(own(folder.path(), &world));
    assert_eq!(refused, "data_held");
    assert!(text.contains(&std::process::id().to_string()) && text.contains("errand test"), "{text}");
    assert!(text.contains("since 2026-09-21 14:13:20 UTC"), "{text}");

    let reader = read(folder.path()).unwrap();
    let mut log = reader.store().load(sample::run(1)).await.unwrap().unwrap().log;
    step(owner.store(), &mut log, 0, false).await;
    let seen = reader.store().load(sample::run(1)).await.unwrap().unwrap().log;
    assert_eq!(seen.records, log.records, "a reader sees what the owner wrote since");
    let record = sample::step(&log, 0, 1, false);
    assert_eq!(refusal(reader.store().commit(log.run.id, &record, None).await.unwrap_err()).0, "data_read_mode");

    owner.close().await.unwrap();
    assert_eq!(refusal(owner.store().commit(log.run.id, &record, None).await.unwrap_err()).0, "data_closed");
    fs::write(folder.path().join("lock"), "what a dead owner left, cut of").unwrap();
    let next = own(folder.path(), &world).unwrap();
    assert_eq!(next.store().load(log.run.id).await.unwrap().unwrap().log.records, log.records);
}

#[tokio::test]
async fn the_lock_is_let_go_when_the_store_is_dropped() {
    let folder = filled().await;
    drop(own(folder.path(), &TestWorld::new()).unwrap());
    own(folder.path(), &TestWorld::new()).unwrap();
}

#[tokio::test]
async fn a_damaged_database_is_refused_and_left_as_it_is() {
    for damage in ["garbage", "short garbage", "cut", "cut to a page"] {
        let folder = filled().await;
        let file = database(folder.path());
        let mut bytes = fs::read(&file).unwrap();
        match damage {
            "garbage" => bytes = b"not a database ".repeat(1_000),
            "short garbage" => bytes = b"x".to_vec(),
            "cut" => bytes.truncate(bytes.len() - 5_000),
            _ => bytes.truncate(4_096),
        }
        fs::write(&file, &bytes).unwrap();
        for (refused, text) in [code(own(folder.path(), &TestWorld::new())), code(read(folder.path()))] {
            assert_eq!(refused, "data_corrupt", "{damage}: {text}");
            assert!(text.contains("errand.db") && text.contains("restore"), "{text}");
        }
        assert_eq!(fs::read(&file).unwrap(), bytes, "{damage}");
    }
}

#[tokio::test]
async fn damage_inside_is_found_when_it_is_read() {
    let folder = filled().await;
    let file = database(folder.path());
    let whole = fs::read(&file).unwrap();
    let damaged_from = |start: usize| {
        let mut bytes = whole.clone();
        bytes[start..].fill(0xA5);
        fs::write(&file, &bytes).unwrap();
    };
    damaged_from(1_024);
    assert_eq!(code(own(folder.path(), &TestWorld::new())).0, "data_corrupt", "all but the first page");
    assert_eq!(code(read(folder.path())).0, "data_corrupt", "all but the first page");
    damaged_from(whole.len() - 2_048);
    let reader = read(folder.path()).unwrap();
    let (refused, text) = refusal(reader.store().load(sample::run(1)).await.unwrap_err());
    assert!(["data_corrupt", "ledger_broken"].contains(&refused), "{refused}: {text}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let folder = filled().await;
    let connection = rusqlite::Connection::open(database(folder.path())).unwrap();
    connection.pragma_update(None, "user_version", 3).unwrap();
    drop(connection);
    for (refused, text) in [code(own(folder.path(), &TestWorld::new())), code(read(folder.path()))] {
        assert_eq!(refused, "data_newer");
        assert!(text.contains("schema 3") && text.contains("newer errand"), "{text}");
    }
}

#[tokio::test]
async fn an_altered_record_is_named() {
    let alterations = [
        ("UPDATE records SET bytes = replace(bytes, '0002', '0003') WHERE slot & 0xFFFFFF = 2", "record 2 was altered"),
        ("UPDATE records SET hash = zeroblob(32) WHERE slot & 0xFFFFFF = 3", "record 3 was altered"),
        ("UPDATE records SET hash = x'00' WHERE slot & 0xFFFFFF = 1", "record 1 was altered"),
        ("DELETE FROM records WHERE slot & 0xFFFFFF = 2", "record 2 is missing"),
    ];
    for (alteration, expected) in alterations {
        let folder = filled().await;
        rusqlite::Connection::open(database(folder.path())).unwrap().execute(alteration, []).unwrap();
        let opened = own(folder.path(), &TestWorld::new()).unwrap();
        let (refused, text) = refusal(opened.store().load(sample::run(1)).await.unwrap_err());
        assert_eq!(refused, "ledger_broken");
        assert!(text.contains(expected) && text.contains(&sample::run(1).to_string()), "{text}");
    }
}

#[tokio::test]
async fn a_read_only_disk_can_be_read_and_not_owned() {
    let Some(mount) = Mount::tmpfs("size=8m") else { return };
    let path = mount.path();
    let opened = own(&path, &TestWorld::new()).unwrap();
    let mut log = begin(opened.store(), 1).await;
    step(opened.store(), &mut log, 0, false).await;
    opened.close().await.unwrap();
    mount.make_read_only();
    assert_eq!(code(own(&path, &TestWorld::new())).0, "data_read_only");
    assert_eq!(code(own(&path.join("new"), &TestWorld::new())).0, "data_read_only");
    assert_eq!(records(&path).await, 2);
}

#[tokio::test]
async fn what_a_dead_owner_left_in_the_log_is_read_without_a_new_owner() {
    let (folder, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let opened = own(folder.path(), &TestWorld::new()).unwrap();
    let mut log = begin(opened.store(), 1).await;
    step(opened.store(), &mut log, 0, false).await;
    for file in ["errand.db", "errand.db-wal"] {
        fs::copy(folder.path().join(file), left.path().join(file)).unwrap();
    }
    assert_eq!(records(left.path()).await, 2);
    assert_eq!(records(left.path()).await, 2, "reading takes nothing away");
    let next = own(left.path(), &TestWorld::new()).unwrap();
    assert_eq!(next.store().load(log.run.id).await.unwrap().unwrap().log.records, log.records);
}

/// An owner that died left its newest records in SQLite's log, which can only be merged by writing.
#[tokio::test]
async fn a_read_only_disk_with_a_log_left_behind_is_read_whole() {
    let Some(mount) = Mount::tmpfs("size=8m") else { return };
    let (path, away) = (mount.path(), tempfile::tempdir().unwrap());
    let opened = own(&path, &TestWorld::new()).unwrap();
    let mut log = begin(opened.store(), 1).await;
    step(opened.store(), &mut log, 0, false).await;
    for file in ["errand.db", "errand.db-wal"] {
        fs::copy(path.join(file), away.path().join(file)).unwrap();
    }
    drop(opened);
    fs::remove_dir_all(&path).unwrap();
    fs::create_dir(&path).unwrap();
    for file in ["errand.db", "errand.db-wal"] {
        fs::copy(away.path().join(file), path.join(file)).unwrap();
    }
    mount.make_read_only();
    assert_eq!(records(&path).await, 2);
    assert!(!path.join("errand.db-shm").exists());
}

#[tokio::test]
async fn a_folder_without_permission_to_write_is_told() {
    let folder = filled().await;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
    fs::set_permissions(folder.path().join("lock"), fs::Permissions::from_mode(0o400)).unwrap();
    let opened = own(folder.path(), &TestWorld::new());
    let is_root = fs::write(folder.path().join("lock"), "").is_ok();
    if is_root {
        println!("skipped: permissions do not bind root; a read-only disk is tested beside this");
    } else {
        assert_eq!(code(opened).0, "data_read_only");
        assert_eq!(records(folder.path()).await, 3);
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn a_full_disk_is_told_and_loses_nothing() {
    let Some(mount) = Mount::tmpfs("size=1m") else { return };
    let path = mount.path();
    let world = TestWorld::new();
    let opened = own(&path, &world).unwrap();
    let store = opened.store();
    let mut log = begin(store, 1).await;
    let refused = loop {
        let record = sample::step(&log, 0, 1, false);
        match store.commit(log.run.id, &record, None).await {
            Ok(commit) => assert_eq!(commit, Commit::Stored),
            Err(error) => break refusal(error),
        }
        log.push(record);
    };
    assert_eq!(refused.0, "disk_full", "{}", refused.1);
    assert!(refused.1.contains("free some space"), "{}", refused.1);
    let large = vec![1; 1 << 20];
    assert_eq!(opened.blobs().put_blocking(&large).unwrap_err().code(), "disk_full");
    assert!(!opened.blobs().has(&errand_core::Hash::of(&large)));
    assert_eq!(store.load(log.run.id).await.unwrap().unwrap().log.records, log.records);
    assert_eq!(store.load_stored(log.run.id).await.unwrap().unwrap().log.records, log.records);

    let filler = mount.folder.path().join("filler");
    drop(opened);
    while fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&filler)
        .and_then(|mut file| std::io::Write::write_all(&mut file, &[0; 512]))
        .is_ok()
    {}
    assert_eq!(code(own(&path, &world)).0, "disk_full");
    fs::remove_file(&filler).unwrap();
    let mut remount = Command::new("mount");
    assert!(remount.args(["-o", "remount,size=8m"]).arg(mount.folder.path()).status().unwrap().success());
    let opened = own(&path, &world).unwrap();
    assert_eq!(opened.store().load(log.run.id).await.unwrap().unwrap().log.records, log.records);
    step(opened.store(), &mut log, 0, false).await;
}

#[tokio::test]
async fn a_write_to_a_run_that_is_not_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let opened = own(folder.path(), &TestWorld::new()).unwrap();
    let log = sample::log(sample::run(1), sample::at(1));
    let store = opened.store();
    let claim = sample::claim(2, 1, 1, sample::at(9));
    assert_eq!(refusal(store.put(log.run.id, &claim, None).await.unwrap_err()).0, "run_unknown");
    let record = sample::step(&log, 0, 1, false);
    let (refused, text) = refusal(store.commit(log.run.id, &record, None).await.unwrap_err());
    assert_eq!(refused, "run_unknown");
    assert!(text.contains(&log.run.id.to_string()), "{text}");
    assert!(!store.move_due(log.run.id, None, Some(sample::at(1))).await.unwrap());
}

#[tokio::test]
async fn a_clock_set_back_does_not_disturb_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let world = TestWorld::new();
    world.set(1_000_000);
    let opened = own(folder.path(), &world).unwrap();
    let mut log = begin(opened.store(), 1).await;
    let call = errand_core::CallId { record: 2, index: 0 };
    let fence = Item {
        key: ItemKey::Fence { call, attempt: 1 },
        at: world.now(),
        body: ItemBody::Fence { by: world.nonce(), expires: world.now().plus(500) },
    };
    assert_eq!(opened.store().put(log.run.id, &fence, None).await.unwrap(), Put::Stored);
    drop(opened);
    world.set(10);
    let opened = DataFolder::open(folder.path(), Mode::Own { command: String::new() }, Arc::clone(&world) as _).unwrap();
    let loaded = opened.store().load(log.run.id).await.unwrap().unwrap();
    for item in loaded.log.items.values() {
        let (ItemBody::Fence { expires, .. } | ItemBody::Claim { expires, .. }) = item.body else { continue };
        assert!(expires <= world.now(), "the makers of {} are dead, whatever the clock says", item.key);
    }
    assert_eq!(loaded.log.items.len(), 2, "the fence, and a claim made up for the call that may have been made");
    step(opened.store(), &mut log, 0, false).await;
    assert_eq!(opened.store().overdue(sample::at(1), 9).await.unwrap(), [log.run.id]);
}

#[tokio::test]
async fn the_log_of_a_database_that_is_gone_is_no_part_of_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("errand.db-wal");
    let opened = own(folder.path(), &TestWorld::new()).unwrap();
    begin(opened.store(), 1).await;
    let left = std::fs::read(&log).unwrap();
    opened.close().await.unwrap();
    drop(opened);
    std::fs::remove_file(database(folder.path())).unwrap();
    std::fs::write(&log, left).unwrap();
    let anew = own(folder.path(), &TestWorld::new()).unwrap();
    assert!(anew.store().unfinished().await.unwrap().is_empty());
    begin(anew.store(), 2).await;
    anew.close().await.unwrap();
    drop(anew);
    assert_eq!(own(folder.path(), &TestWorld::new()).unwrap().store().unfinished().await.unwrap().len(), 1);
}
