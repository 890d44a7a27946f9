//! A runner that is killed at any moment loses no snapshot that it was told is kept.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use errand_sandbox::{ChunkStore, HeadStore, Keeper, Kept, Limits, Session, Sessions};
use sha2::{Digest, Sha256};

const ROOT: &str = "ERRAND_SANDBOX_KILLED_RUNNER_ROOT";
const FILES: u64 = 40;
const KILLS: u64 = 12;

/// Chunks and heads as files that appear whole.
struct Folder(PathBuf);

impl Folder {
    fn write(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let temporary = self.0.join(format!("tmp-{name}"));
        std::fs::write(&temporary, bytes)?;
        std::fs::rename(temporary, self.0.join(name))
    }

    fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.0.join(name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }
}

fn name(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl ChunkStore for Folder {
    fn put(&self, bytes: &[u8]) -> std::io::Result<[u8; 32]> {
        let hash = Sha256::digest(bytes).into();
        self.write(&name(&hash), bytes).map(|()| hash)
    }

    fn get(&self, hash: &[u8; 32]) -> std::io::Result<Option<Vec<u8>>> {
        self.read(&name(hash))
    }
}

impl HeadStore for Folder {
    fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        self.read(name)
    }

    fn replace(&self, name: &str, expected: Option<&[u8]>, bytes: &[u8]) -> std::io::Result<bool> {
        // One process at a time is all this test has.
        if self.read(name)?.as_deref() != expected {
            return Ok(false);
        }
        self.write(name, bytes).map(|()| true)
    }
}

fn open(root: &Path) -> (Folder, Session, Keeper) {
    let store = Folder(root.join("store"));
    let session = Sessions::at(root.join("sessions")).unwrap().open_or_create("s").unwrap();
    let keeper = Keeper::take_over(&session, &store).unwrap();
    (store, session, keeper)
}

/// The state of a round: each file tells it, and some are large enough to be killed within.
fn write_round(session: &Session, round: u64) {
    for number in 0..FILES {
        let bytes = format!("{round} {number} ").repeat(if number % 10 == 0 { 40_000 } else { 10 });
        session.put_file(&format!("folder-{}/file-{number}", number % 3), bytes.as_bytes()).unwrap();
    }
}

/// Which round the workspace shows, if it shows one and nothing else.
fn round_of(session: &Session) -> u64 {
    let mut rounds = Vec::new();
    for entry in
        session.list("", true, 1000).unwrap().into_iter().filter(|entry| entry.size > 0 && entry.path.contains("file-"))
    {
        let bytes = session.read_file(&entry.path, 0, u64::MAX >> 1).unwrap().bytes;
        let text = String::from_utf8(bytes).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(words.chunks(2).all(|pair| pair == &words[..2]), "{} is a mixture", entry.path);
        rounds.push(words[0].parse().unwrap());
    }
    assert_eq!(rounds.len() as u64, FILES);
    assert!(rounds.iter().all(|round| *round == rounds[0]), "files of several rounds: {rounds:?}");
    rounds[0]
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how the test talks to the copy of itself that it starts")]
fn a_runner_killed_at_any_moment_loses_no_snapshot() {
    if let Some(root) = std::env::var_os(ROOT) {
        return work_until_killed(Path::new(&root));
    }
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("store")).unwrap();
    let mut chance = 0x9E37_79B9_7F4A_7C15u64;
    let mut told = 0;
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["snapshots::a_runner_killed_at_any_moment_loses_no_snapshot", "--exact", "--nocapture"])
            .env(ROOT, root.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // Until it has kept something, or after a restore in the middle of which the one before was killed.
        let first = lines.find_map(|line| line.strip_prefix("kept ").map(|round| round.parse::<u64>().unwrap()));
        told = first.unwrap_or_else(|| panic!("the runner of kill {kill} kept nothing: {:?}", child.wait()));
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        std::thread::park_timeout(Duration::from_micros(chance % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            if let Some(round) = line.strip_prefix("kept ") {
                told = round.parse().unwrap();
            }
        }
        let (store, session, mut keeper) = open(root.path());
        keeper.restore(&session, &store, &Limits::default()).unwrap();
        let shown = round_of(&session);
        assert!(shown == told || shown == told + 1, "told that {told} is kept, restored {shown} (kill {kill})");
        assert_eq!(keeper.stranded(), None);
    }
    assert!(told >= KILLS, "{told} rounds");
}

/// Restores what the one before left, then works, keeps, throws away and restores, round after round.
fn work_until_killed(root: &Path) {
    let (store, session, mut keeper) = open(root);
    let limits = Limits::default();
    keeper.restore(&session, &store, &limits).unwrap();
    let mut round = if session.list("", true, 1000).unwrap().is_empty() { 0 } else { round_of(&session) };
    loop {
        round += 1;
        write_round(&session, round);
        assert!(matches!(keeper.keep(&session, &store, &store, &limits).unwrap(), Kept::Stored { .. }));
        println!("kept {round}");
        session.remove("folder-1").unwrap();
        session.put_file("folder-2/file-2", b"thrown away").unwrap();
        keeper.restore(&session, &store, &limits).unwrap();
        assert_eq!(round_of(&session), round);
    }
}
