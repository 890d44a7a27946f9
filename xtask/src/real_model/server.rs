//! The server: a child of ours on loopback, which ends with this value.

use anyhow::{Context, bail, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// The name that the server gives its model.
pub(super) const MODEL: &str = "smollm2-135m-instruct";
/// The longest wait for the server, which reads 98 MB first.
const START: Duration = Duration::from_secs(120);
/// The longest wait for its list of models.
const LIST: Duration = Duration::from_secs(30);
/// Most bytes of that list.
const LIST_BYTES_MAX: u64 = 64 << 10;
/// The model's whole window (its own file says so): instructions and tools alone are more than the server's 2,048.
const CONTEXT: &str = "8192";
/// Finds the model among the installed packages.
const FIND: &str = "import pathlib, sysconfig
found = sorted(pathlib.Path(sysconfig.get_path('purelib')).rglob('*SmolLM2*.gguf'))
print(found[0] if found else '')";

/// A server that answers.
pub(super) struct Server {
    child: Child,
    /// Where it is, with the version.
    pub(super) base_url: String,
}

impl Server {
    /// Starts it with one thread: more of them wait for each other on a busy machine. Its log goes into `cache`.
    pub(super) fn start(python: &Path, cache: &Path) -> anyhow::Result<Self> {
        let model = model(python)?;
        let port = free_port()?;
        let mut command = Command::new(python);
        command.args(["-m", "llama_cpp.server", "--host", "127.0.0.1", "--n_threads", "1", "--n_threads_batch", "1"]);
        command.args(["--n_ctx", CONTEXT, "--model_alias", MODEL, "--port", &port.to_string(), "--model", &model]);
        // Variables go before the arguments there: another HOST would open the server to others.
        command.env("HOST", "127.0.0.1").env("PORT", port.to_string()).env_remove("CONFIG_FILE").env_remove("API_KEY");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::piped()).spawn().context("cannot start the server")?;
        let mut server = Self { child, base_url: format!("http://127.0.0.1:{port}/v1") };
        let log = cache.join("server.log");
        let ready = server.listen(&log)?;
        if ready.recv_timeout(START).is_err() {
            bail!("the server was not ready within {START:?}, see {}", log.display());
        }
        let list = get(port, "/v1/models").context("asking the server for its models")?;
        ensure!(list.contains(MODEL), "the server does not list {MODEL}: {list}");
        Ok(server)
    }

    /// Writes down what the server says, and tells when it is ready. Ended early, it drops the sender, which is told too.
    fn listen(&mut self, log: &Path) -> anyhow::Result<Receiver<()>> {
        let said = self.child.stderr.take().context("the server has no standard error")?;
        let mut log = std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let (sender, ready) = mpsc::channel();
        std::thread::spawn(move || {
            let mut sender = Some(sender);
            for line in BufReader::new(said).split(b'\n').map_while(Result::ok) {
                let _ = log.write_all(&line).and_then(|()| log.write_all(b"\n"));
                if says_ready(&line)
                    && let Some(sender) = sender.take()
                {
                    let _ = sender.send(());
                }
            }
        });
        Ok(ready)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn says_ready(line: &[u8]) -> bool {
    String::from_utf8_lossy(line).contains("Uvicorn running on")
}

fn model(python: &Path) -> anyhow::Result<String> {
    let output = Command::new(python).args(["-c", FIND]).output().context("cannot start the environment's Python")?;
    let path = String::from_utf8(output.stdout).context("the model's path is not UTF-8")?.trim().to_owned();
    ensure!(output.status.success() && !path.is_empty(), "the package {} holds no model", super::MODEL);
    Ok(path)
}

/// A port that was free a moment ago; if somebody else takes it, the server ends and says so in its log.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

fn get(port: u16, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), LIST)?;
    stream.set_read_timeout(Some(LIST))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(LIST_BYTES_MAX).read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{}", answer.lines().next().unwrap_or("no answer"));
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ends_at_once_is_not_waited_for() {
        let child = Command::new("false").stderr(Stdio::piped()).spawn().unwrap();
        let mut server = Server { child, base_url: String::new() };
        assert!(
            server
                .listen(Path::new("/dev/null"))
                .unwrap()
                .recv_timeout(START)
                .is_err_and(|error| { error == mpsc::RecvTimeoutError::Disconnected })
        );
    }

    #[test]
    fn the_line_that_says_it_is_ready_is_known() {
        assert!(says_ready(b"INFO:     Uvicorn running on http://127.0.0.1:8000 (Press CTRL+C to quit)"));
        assert!(!says_ready(b"INFO:     Waiting for application startup."));
    }
}
