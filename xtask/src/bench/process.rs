//! The programs: built once, started for a round, told what to do line by line.

use crate::cargo;
use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Longer than between two sweeps of Errand.
const AT_REST: Duration = Duration::from_secs(6);

/// Where the programs lie.
pub(super) struct Programs {
    pub(super) errand: PathBuf,
    pub(super) bench: PathBuf,
}

impl Programs {
    /// Builds them, as they are handed out.
    pub(super) fn build() -> anyhow::Result<Self> {
        let built = cargo::build(&["--profile", "dist", "--package", "errand-cli", "--package", "errand-bench"])?;
        Ok(Self { errand: built.find("errand")?, bench: built.find("errand-bench")? })
    }
}

/// A folder for everything that is written, beside the programs: on a disk, as `/tmp` need not be. Removed at the end.
pub(super) struct Folder {
    path: PathBuf,
    next: std::cell::Cell<u32>,
}

impl Folder {
    pub(super) fn beside(programs: &Programs) -> anyhow::Result<Self> {
        let parent = programs.bench.parent().context("a program without a folder")?;
        let path = parent.join(format!("bench-data-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, next: std::cell::Cell::new(0) })
    }

    /// An empty place that nobody had before.
    pub(super) fn fresh(&self) -> anyhow::Result<PathBuf> {
        let number = self.next.get() + 1;
        self.next.set(number);
        let path = self.path.join(number.to_string());
        std::fs::create_dir(&path)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is below the build's own folder, which `cargo clean` removes.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A program that answers each line with a line. Ended when dropped.
pub(super) struct Talker {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    name: String,
}

impl Talker {
    pub(super) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let name = format!("{command:?}");
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("cannot start {name}"))?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, stdin, stdout, name })
    }

    pub(super) fn ask<T: DeserializeOwned>(&mut self, line: &str) -> anyhow::Result<T> {
        let stdin = self.stdin.as_mut().context("its input is closed")?;
        writeln!(stdin, "{line}").with_context(|| format!("{} has ended", self.name))?;
        Ok(serde_json::from_str(&self.line()?)?)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            bail!("{} ended without an answer: {}", self.name, self.child.wait()?);
        }
        Ok(line)
    }

    /// Carries out an order.
    pub(super) fn order(&mut self, order: Order<'_>) -> anyhow::Result<Done> {
        let Order { runs, at_once, steps, name } = order;
        self.ask(&format!("{runs} {at_once} {steps} {name}"))
    }

    /// Its [`Talker::memory`] once it has come to rest: Errand gives memory back with its sweep, every five seconds.
    #[expect(clippy::disallowed_methods, reason = "nothing tells from outside that a process has come to rest")]
    pub(super) fn memory_at_rest(&self) -> anyhow::Result<u64> {
        std::thread::sleep(AT_REST);
        self.memory()
    }

    /// Its share of the machine's memory, in bytes: what is shared with other processes counts in part.
    fn memory(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let kilobytes =
            text.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kilobytes.with_context(|| format!("no Pss in {path}"))? * 1024)
    }

    /// Ends it by closing its input, and waits until it has let go of everything.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        self.stdin.take();
        let status = self.child.wait()?;
        ensure!(status.success(), "{} ended with {status}", self.name);
        Ok(())
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.stdin.take();
        // After `end` there is nothing left to kill or to wait for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program is to carry out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) runs: usize,
    pub(super) at_once: usize,
    /// 0: ask a person and wait.
    pub(super) steps: usize,
    pub(super) name: &'a str,
}

/// What it cost.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Done {
    pub(super) runs: usize,
    pub(super) wall_ns: u64,
    pub(super) cpu_ns: u64,
}

/// The model.
pub(super) struct Stub {
    talker: Talker,
    pub(super) base_url: String,
}

/// What it saw; see `errand-bench`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Seen {
    pub(super) requests: usize,
    pub(super) first_ns: Option<u64>,
    pub(super) bytes: [usize; 2],
    pub(super) gap_p50_ns: Option<u64>,
    pub(super) gap_p99_ns: Option<u64>,
    pub(super) gap_tenths_ns: [Option<u64>; 2],
}

impl Stub {
    pub(super) fn start(programs: &Programs) -> anyhow::Result<Self> {
        let mut talker = Talker::start(Command::new(&programs.bench).arg("stub"))?;
        let port: u16 = talker.line()?.trim().parse().context("the stub says no port")?;
        Ok(Self { talker, base_url: format!("http://127.0.0.1:{port}/v1") })
    }

    /// Everything since the last time.
    pub(super) fn seen(&mut self) -> anyhow::Result<Seen> {
        self.talker.ask("report")
    }
}

/// A floor over `data`.
pub(super) fn floor(programs: &Programs, stub: &Stub, store: &str, data: &Path) -> Command {
    let mut command = Command::new(&programs.bench);
    command.args(["floor", "--store", store, "--base-url", &stub.base_url, "--data"]).arg(data);
    command
}

/// Errand over `data`, with the settings that make it do what the floors do. Nothing of the caller's own settings.
pub(super) fn errand(programs: &Programs, stub: &Stub, command: &str, tools: &str, data: &Path) -> Command {
    let mut errand = Command::new(&programs.errand);
    errand.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", data).arg(command).arg("--data").arg(data);
    errand.args(["--model", "bench", "--model-base-url", &stub.base_url, "--tools", tools, "--max-steps", "2000"]);
    errand
}
