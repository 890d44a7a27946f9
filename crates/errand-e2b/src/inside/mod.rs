//! The half in the box: what the SDKs call `envd`, and the code interpreter beside it.
//!
//! It has the rights of the user's code, and no secret. Paths mean what they mean in the box; relative ones begin at
//! `/home/user`, which is the workspace.

mod connect;
mod execute;
mod files;
mod process;
mod watch;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// The version of `envd` whose calls are understood: the SDKs leave out what came later.
pub const ENVD_VERSION: &str = "0.6.1";
/// The port that the SDKs name for processes and files.
pub const ENVD_PORT: &str = "49983";
/// The port that the SDKs name for code.
pub const CODE_PORT: &str = "49999";
/// Most bytes of a request that is no file.
pub(crate) const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Where relative paths begin.
const HOME: &str = "/home/user";
/// Largest file that is taken or sent as a whole, in bytes; the workspace is bounded beside it.
const FILE_BYTES_MAX: usize = 1 << 30;

/// What all requests share.
#[derive(Default)]
struct State {
    home: PathBuf,
    processes: process::Processes,
    watchers: watch::Watchers,
    contexts: execute::Contexts,
    /// Variables that all processes find: those of this one, which are the sandbox's.
    variables: BTreeMap<String, String>,
}

impl State {
    /// A path of a request, absolute.
    fn resolve(&self, path: &str) -> PathBuf {
        let path = match path {
            "" | "~" => Path::new("."),
            path => Path::new(path.strip_prefix("~/").unwrap_or(path)),
        };
        // `.` and what it follows are left out; `..` is left to the kernel.
        self.home.join(path).components().collect()
    }
}

/// What a program does whose whole task is to be the inside of a sandbox.
pub fn run() -> ExitCode {
    match serve_standard_input() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; then nobody is told.
            let _ = writeln!(std::io::stderr(), "error: no sandbox can be served: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves on the socket that is this process's standard input, for as long as the process lives. Variables of its
/// environment are those of all processes it starts.
///
/// # Errors
/// When standard input is no listening Unix socket.
fn serve_standard_input() -> std::io::Result<()> {
    let socket = rustix::io::dup(std::io::stdin().as_fd())?;
    // What is started finds an empty input, not the socket.
    let empty = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&empty)?;
    let listener = std::os::unix::net::UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        axum::serve(listener, router(Path::new(HOME), variables())).await
    })
}

/// What the sandbox was made with is what this process was started with; where its user is at home is known here.
#[expect(clippy::disallowed_methods, reason = "this program has no settings but what it passes on")]
fn variables() -> BTreeMap<String, String> {
    // A name or value that is no text reaches what is started by itself.
    let own = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut all: BTreeMap<String, String> = own.collect();
    all.insert("HOME".to_owned(), HOME.to_owned());
    all.entry("USER".to_owned()).or_insert_with(|| "user".to_owned());
    all
}

/// All routes, with relative paths beginning at `home`.
fn router(home: &Path, variables: BTreeMap<String, String>) -> Router {
    let state = Arc::new(State { home: home.to_owned(), variables, ..State::default() });
    Router::new()
        .merge(process::routes())
        .merge(watch::routes())
        .layer(DefaultBodyLimit::max(MESSAGE_BYTES_MAX))
        .merge(files::routes().layer(DefaultBodyLimit::max(FILE_BYTES_MAX)))
        .merge(execute::routes().layer(DefaultBodyLimit::max(MESSAGE_BYTES_MAX)))
        .route("/health", get(|| async { axum::http::StatusCode::NO_CONTENT }))
        .with_state(state)
}
