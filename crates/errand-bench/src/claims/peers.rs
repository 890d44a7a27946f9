//! What the others do for the same.

use crate::boxes::BWRAP;
use anyhow::{Context, ensure};
use errand_sandbox::Engine;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(super) fn bwrap(workspace: &Path, program: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("bwrap");
    command.args(BWRAP).arg("--bind").arg(workspace).args(["/workspace", "--chdir", "/workspace"]).args(program);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    ensure!(command.status()?.success(), "bubblewrap makes no box here");
    Ok(())
}

pub(super) fn python(code: &str) -> anyhow::Result<()> {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-s", "-c", code]).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    ensure!(command.status()?.success(), "python3 failed");
    Ok(())
}

/// A script that runs `true` so many times and tells the microseconds it took.
pub(super) fn loop_of(times: u32) -> String {
    format!(
        "errand_begun=${{EPOCHREALTIME/./}}; for ((i = 0; i < {times}; i++)); do /usr/bin/true; done; \
         echo $((${{EPOCHREALTIME/./}} - errand_begun))"
    )
}

pub(super) fn told(text: &str, times: u32) -> anyhow::Result<Duration> {
    let micros: u64 = text.trim().parse().with_context(|| format!("the shell tells no time: {text:?}"))?;
    Ok(Duration::from_micros(micros) / times)
}

/// The same by a shell of the host.
pub(super) fn execs(times: u32) -> anyhow::Result<Duration> {
    let output = Command::new("bash").args(["-c", &loop_of(times)]).env_clear().stdin(Stdio::null()).output()?;
    told(&String::from_utf8_lossy(&output.stdout), times)
}

/// An interpreter with the same modules that forks a child for each byte it reads; the child prints.
pub(super) struct Forker(Child);

const FORKER: &str = "import ast, ctypes, gc, importlib.util, json, linecache, os, select, signal, socket, struct, sys, traceback\n\
    try: import numpy, pandas\nexcept ImportError: pass\n\
    gc.collect(); gc.freeze()\n\
    while os.read(0, 1):\n    \
        pid = os.fork()\n    \
        if pid == 0:\n        exec('print(1, flush=True)'); os._exit(0)\n    \
        os.waitpid(pid, 0)\n";

impl Forker {
    pub(super) fn start(engine: &Engine) -> anyhow::Result<Forker> {
        let python = engine.interpreters().iter().find(|one| one.name == "python3").context("no python3 here")?;
        let mut command = Command::new(&python.path);
        command.args(["-u", "-s", "-c", FORKER]).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Forker(command.spawn()?))
    }

    /// One child, to its output.
    pub(super) fn fork(&mut self) -> anyhow::Result<()> {
        let (stdin, stdout) = (self.0.stdin.as_mut().context("no input")?, self.0.stdout.as_mut().context("no output")?);
        stdin.write_all(b"x")?;
        let mut printed = [0; 2];
        stdout.read_exact(&mut printed)?;
        ensure!(printed == *b"1\n", "the child printed something else");
        Ok(())
    }
}

impl Drop for Forker {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends with its input.
        let _ = self.0.wait();
    }
}
