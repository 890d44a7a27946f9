//! What keeping a workspace costs: a snapshot after a small change, and how long a restore keeps the first reader waiting,
//! each beside a floor and `cp -a` in the same round.

use anyhow::{Context, ensure};
use errand_sandbox::{ChunkStore, FilesOf, Limits, Manifest, Restoring, Session, Sessions};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// Of a workspace of many files.
const FILE_BYTES: u64 = 100 << 10;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each is done.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Largest workspace to restore, in MiB.
    #[arg(long, default_value_t = 1000)]
    largest: u64,
    /// An empty folder on the disk to measure.
    #[arg(long)]
    data: PathBuf,
}

/// Chunks as files that are on the disk before `put` returns, as a store must; counts the time that takes.
struct Disk {
    folder: PathBuf,
    put_micros: AtomicU64,
    put_bytes: AtomicU64,
}

impl Disk {
    fn at(folder: PathBuf) -> anyhow::Result<Disk> {
        fs::create_dir(&folder)?;
        Ok(Disk { folder, put_micros: AtomicU64::new(0), put_bytes: AtomicU64::new(0) })
    }

    fn path(&self, hash: &[u8; 32]) -> PathBuf {
        self.folder.join(hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    /// Bytes and time since this was last asked.
    fn given(&self) -> (u64, Duration) {
        let micros = self.put_micros.swap(0, Ordering::Relaxed);
        (self.put_bytes.swap(0, Ordering::Relaxed), Duration::from_micros(micros))
    }
}

impl ChunkStore for Disk {
    fn put(&self, bytes: &[u8]) -> std::io::Result<[u8; 32]> {
        let began = Instant::now();
        let hash = Sha256::digest(bytes).into();
        let mut file = fs::File::create(self.path(&hash))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        self.put_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.put_micros.fetch_add(began.elapsed().as_micros() as u64, Ordering::Relaxed);
        Ok(hash)
    }

    fn get(&self, hash: &[u8; 32]) -> std::io::Result<Option<Vec<u8>>> {
        fs::read(self.path(hash)).map(Some)
    }
}

/// Times of one thing.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn line(mut self, name: &str, note: &str) {
        self.0.sort();
        let ms =
            |part: usize| self.0.get((self.0.len().saturating_sub(1)) * part / 100).map_or(0.0, |t| t.as_secs_f64() * 1e3);
        say(&format!("{name:<58} {:>9.1} {:>9.1} {:>9.1}  {note}", ms(0), ms(50), ms(100)));
    }
}

fn say(line: &str) {
    // Whoever reads it may have gone.
    let _ = writeln!(std::io::stdout(), "{line}");
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let sessions = Sessions::at(args.data.join("sessions"))?;
    let store = Arc::new(Disk::at(args.data.join("chunks"))?);
    let limits = Limits { workspace_bytes: 2 << 30, ..Limits::default() };
    say(&format!("{:<58} {:>9} {:>9} {:>9}", "ms", "min", "median", "max"));
    let shapes: [(&str, u64, u64); 2] = [("1000 files", 1000, FILE_BYTES), ("one file", 1, 100 * MIB)];
    for (shape, count, bytes) in shapes {
        snapshots(args, &sessions, &store, &limits, (shape, count, bytes))?;
    }
    for mib in [10, 100, 1000].into_iter().filter(|mib| *mib <= args.largest) {
        restores(args, &sessions, &store, &limits, mib)?;
    }
    Ok(())
}

/// A snapshot of 100 MB of which 1 % changed.
fn snapshots(
    args: &Args,
    sessions: &Sessions,
    store: &Arc<Disk>,
    limits: &Limits,
    (shape, count, bytes): (&str, u64, u64),
) -> anyhow::Result<()> {
    let id = format!("take-{count}");
    let session = sessions.create(&id)?;
    let mut noise = Noise(count);
    fill(&session, count, bytes, &mut noise)?;
    let began = Instant::now();
    let mut last = session.snapshot(&**store, None, limits)?;
    let (given, giving) = store.given();
    let first = began.elapsed();
    pause();
    last = session.snapshot(&**store, Some(&last), limits)?;
    let [mut all, mut ours, mut floor, mut copy] = [const { Times(Vec::new()) }; 4];
    let mut changed_bytes = 0;
    for round in 0..args.rounds {
        change(&session, count, bytes, round as u64, &mut noise)?;
        // What was just written counts as settled only after this.
        pause();
        store.given();
        let began = Instant::now();
        let taken = session.snapshot(&**store, Some(&last), limits)?;
        let took = began.elapsed();
        let (put, putting) = store.given();
        changed_bytes = put;
        // Four give at a time, so this is more than it had to wait for them; what is left is at least our own.
        all.0.push(took);
        ours.0.push(took.saturating_sub(putting / if put > MIB / 4 { 4 } else { 1 }));
        ensure!(taken.manifest != last.manifest && taken.files_read <= 10, "{} files were read", taken.files_read);
        last = taken;
        let began = Instant::now();
        floor_of(&session, count, round as u64)?;
        floor.0.push(began.elapsed());
        if round < 3 {
            copy.0.push(copied(&session.workspace_path(), &args.data.join("copy"))?);
        }
    }
    let first = format!("first one: {:.0} ms, {} MB given in {:.0} ms of threads", ms(first), given / 1_000_000, ms(giving));
    all.line(&format!("snapshot, 100 MB in {shape}, 1 % changed"), &first);
    ours.line("  besides giving chunks to the disk", &format!("{:.2} MB given", changed_bytes as f64 / 1e6));
    floor.line("  floor: stat all, read and hash what changed", "");
    copy.line("  peer: cp -a of the workspace", "");
    sessions.destroy(session)?;
    Ok(())
}

/// From a manifest's digest to the first bytes of a file, and until all is there.
fn restores(args: &Args, sessions: &Sessions, store: &Arc<Disk>, limits: &Limits, mib: u64) -> anyhow::Result<()> {
    let session = sessions.create(&format!("from-{mib}"))?;
    let count = mib * MIB / FILE_BYTES;
    fill(&session, count, FILE_BYTES, &mut Noise(mib))?;
    let taken = session.snapshot(&**store, None, limits)?;
    let hash = store.put(&taken.manifest.to_bytes())?;
    let [mut view, mut first, mut whole, mut floor, mut copy] = [const { Times(Vec::new()) }; 5];
    let rounds = if mib >= 1000 { 3 } else { args.rounds.min(7) };
    for round in 0..rounds {
        let path = name(round as u64 * 7 % count);
        let began = Instant::now();
        let manifest = Manifest::fetch(&**store, &hash)?;
        let read = FilesOf::new(&manifest, &**store).read_file(&path, 0, 4096)?;
        view.0.push(began.elapsed());
        ensure!(read.bytes.len() == 4096, "{path} was not read");

        let to = sessions.create(&format!("to-{mib}-{round}"))?;
        let began = Instant::now();
        let manifest = Manifest::fetch(&**store, &hash)?;
        let restoring = Restoring::begin(to, Arc::clone(store) as Arc<_>, manifest, limits.clone())?;
        restoring.files().read_file(&path, 0, 4096)?;
        first.0.push(began.elapsed());
        let (to, _) = restoring.finish()?;
        whole.0.push(began.elapsed());
        if round == 0 {
            let again = to.snapshot(&**store, None, limits)?;
            ensure!(again.manifest.hash() == hash, "what was restored is not what was kept");
        }
        sessions.destroy(to)?;

        let began = Instant::now();
        let chunk = taken.manifest.chunks().next().context("no chunks")?;
        ensure!(Sha256::digest(fs::read(store.path(&chunk.hash))?)[..] == chunk.hash, "a damaged chunk");
        floor.0.push(began.elapsed());
        if round < 3 {
            copy.0.push(copied(&session.workspace_path(), &args.data.join("copy"))?);
        }
    }
    view.line(&format!("first read from a snapshot, {mib} MiB in {count} files"), "nothing is restored");
    first.line("  while it is restored", "");
    whole.line("  until all is there (before a box can start)", "");
    floor.line("  floor: read and hash one chunk", "");
    copy.line("  peer: cp -a of the workspace", "");
    sessions.destroy(session)?;
    Ok(())
}

fn name(number: u64) -> String {
    format!("folder-{}/file-{number}", number % 20)
}

fn fill(session: &Session, count: u64, bytes: u64, noise: &mut Noise) -> anyhow::Result<()> {
    for number in 0..count {
        session.put_file(&name(number), &noise.bytes(bytes))?;
    }
    Ok(())
}

/// One hundredth of the bytes: whole files of many, a stretch in the middle of one.
fn change(session: &Session, count: u64, bytes: u64, round: u64, noise: &mut Noise) -> anyhow::Result<()> {
    if count == 1 {
        let file = fs::OpenOptions::new().write(true).open(session.workspace_path().join(name(0)))?;
        let at = (round * 13 + 5) % 90 * MIB;
        return Ok(std::os::unix::fs::FileExt::write_all_at(&file, &noise.bytes(bytes / 100), at)?);
    }
    for number in changed(count, round) {
        session.put_file(&name(number), &noise.bytes(bytes))?;
    }
    Ok(())
}

fn changed(count: u64, round: u64) -> impl Iterator<Item = u64> {
    (0..count / 100).map(move |number| (number * 97 + round * 31) % count)
}

fn floor_of(session: &Session, count: u64, round: u64) -> anyhow::Result<()> {
    let root = session.workspace_path();
    for number in 0..count {
        fs::symlink_metadata(root.join(name(number)))?;
    }
    let changed: Vec<u64> = if count == 1 { vec![0] } else { changed(count, round).collect() };
    for number in changed {
        let hash = Sha256::digest(fs::read(root.join(name(number)))?);
        ensure!(hash[..] != [0; 32], "no hash");
    }
    Ok(())
}

fn copied(from: &Path, to: &Path) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().context("cannot start cp")?;
    let took = began.elapsed();
    ensure!(status.success(), "cp failed");
    fs::remove_dir_all(to)?;
    Ok(took)
}

/// Longer than the grain of time stamps.
fn pause() {
    let began = Instant::now();
    // Parking may end early, when threads that were waited for have just ended.
    while let Some(left) = Duration::from_millis(150).checked_sub(began.elapsed()) {
        std::thread::park_timeout(left);
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Bytes that neither repeat nor shrink, the same in every run.
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, count: u64) -> Vec<u8> {
        let words = (0..count.div_ceil(8)).flat_map(|_| {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (mixed ^ (mixed >> 27)).to_le_bytes()
        });
        let mut bytes: Vec<u8> = words.collect();
        bytes.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        bytes
    }
}
