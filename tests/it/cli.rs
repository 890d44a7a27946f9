//! The `errand` binary, driven as a user drives it: arguments in, exit status and output out.

#![expect(clippy::unwrap_used, reason = "a test helper that fails should panic")]

mod added;
mod assistants;
mod bad_input;
mod bundles;
mod crash;
mod demos;
mod egress;
mod folder;
mod kill;
mod office;
mod outside;
mod pages;
mod providers;
mod runs;
mod sandbox;

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use tempfile::TempDir;

/// A user with a home, a data folder and scripts of their own.
pub(crate) struct User {
    home: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl User {
    pub(crate) fn new() -> Self {
        let user = Self { home: tempfile::tempdir().unwrap() };
        std::fs::create_dir(user.path("scripts")).unwrap();
        user
    }

    /// A path in the user's home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Writes a script that `scripted/NAME` plays.
    pub(crate) fn script(&self, name: &str, text: &str) {
        let text = format!("about = \"a test\"\n{text}");
        std::fs::write(self.path("scripts").join(format!("{name}.toml")), text).unwrap();
    }

    /// A command with nothing of the tester's own environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.home.path())
            .env("ERRAND_DATA", self.data())
            .env("ERRAND_SCRIPT_DIR", self.path("scripts"))
            // Nothing listens on the discard port, so no Ollama of the tester's is found.
            .env("ERRAND_OLLAMA_URL", "http://127.0.0.1:9/v1")
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn errand(&self, arguments: &[&str]) -> Ended {
        ended(self.command(arguments))
    }

    /// Runs a command that must end with `code`.
    pub(crate) fn expect(&self, code: i32, arguments: &[&str]) -> Ended {
        let ended = self.errand(arguments);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:#?}");
        ended
    }

    /// Runs a command that must be refused with an error code.
    pub(crate) fn refused(&self, code: i32, error: &str, arguments: &[&str]) -> Ended {
        let ended = self.expect(code, arguments);
        ended.is_refused_with(error);
        ended
    }

    /// The JSON lines of a command that must end with `code`.
    pub(crate) fn json(&self, code: i32, arguments: &[&str]) -> Vec<Value> {
        self.expect(code, &[arguments, &["--json"]].concat()).json()
    }

    /// Starts a command and leaves it running.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Running { child, stderr, seen: String::new() }
    }

    /// The newest run.
    pub(crate) fn newest(&self) -> String {
        self.json(0, &["runs", "--limit", "1"])[0]["run"].as_str().unwrap().to_owned()
    }

    pub(crate) fn status(&self, run: &str) -> String {
        self.json(0, &["show", run])[0]["status"].as_str().unwrap().to_owned()
    }

    /// The types of a run's events.
    pub(crate) fn event_types(&self, run: &str) -> Vec<String> {
        self.json(0, &["events", run]).iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }
}

impl Ended {
    pub(crate) fn json(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The code, a hint, and that the code has a page.
    pub(crate) fn is_refused_with(&self, error: &str) {
        assert!(self.stderr.contains(&format!("error[{error}]: ")), "{self:#?}");
        assert!(self.stderr.contains("  hint: "), "{self:#?}");
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/errors/{error}.md"));
        assert!(page.is_file(), "there is no {}", page.display());
    }
}

/// A command under way.
pub(crate) struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    seen: String,
}

impl Running {
    /// Waits for a line on standard error that contains `text`.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.stderr.read_line(&mut line).unwrap();
            self.seen.push_str(&line);
            assert!(read > 0, "it ended without `{text}`: {}", self.seen);
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn end(mut self) -> Ended {
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut self.seen).unwrap();
        let code = self.child.wait().unwrap().code();
        Ended { code, stdout, stderr: std::mem::take(&mut self.seen) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn ended(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a command with `input` on its standard input.
pub(crate) fn fed(mut command: Command, input: &[u8]) -> Ended {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may refuse before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The binary, which lies two folders above this test.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary = test.parent().and_then(Path::parent).unwrap().join("errand");
    assert!(
        binary.is_file(),
        "there is no {}: run these tests with `cargo test --workspace`, or `cargo build -p errand-cli` first",
        binary.display()
    );
    binary
}

/// A script that asks for a tool call and answers with what came of it.
pub(crate) fn one_call(tool: &str, arguments: &str) -> String {
    format!(
        "[[turn]]\nsay = \"I call {tool}.\"\n[[turn.call]]\ntool = \"{tool}\"\narguments = {arguments}\n\n\
         [[turn]]\nsay = \"It said: {{{{ calls.{tool}.text }}}}\"\nnext = [{{ goto = \"end\" }}]\n"
    )
}
