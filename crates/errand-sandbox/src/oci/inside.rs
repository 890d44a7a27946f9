//! The first process of a box: it starts the main process with the limits and filters of tier T1, passes SIGTERM on, reaps,
//! and writes how the main process ended, which runtimes tell only in part.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};
use std::process::ExitCode;

use libc::c_int;

use super::job::{END_PATH, JOB_PATH, Job};
use crate::engine::child;
use crate::engine::plan::{Message, Plan, Program};
use crate::engine::seccomp;
use crate::engine::sys::{self, call, check};
use crate::exec::Profile;

/// More than any job that the runner writes.
const JOB_BYTES_MAX: u64 = 16 << 20;

/// Does what the runner left in the box to do. Call it before the process has other threads. Anywhere else than in a box it
/// fails at once.
pub fn run_inside_box() -> ExitCode {
    match begin() {
        Ok(never) => match never {},
        Err(reason) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "the box did not begin: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn begin() -> Result<std::convert::Infallible, String> {
    let job = read_job().map_err(|e| format!("{JOB_PATH} cannot be read ({e})"))?;
    let end = std::fs::OpenOptions::new().write(true).open(END_PATH);
    let end = end.map_err(|e| format!("{END_PATH} cannot be written ({e})"))?;
    let filters = seccomp::filters(Profile::Code).map_err(|e| format!("the system-call filter cannot be built ({e})"))?;
    let mut plan = plan(job, end.as_raw_fd(), filters)?;
    let errno = |what: &'static str| move |errno| format!("{what} failed ({})", std::io::Error::from_raw_os_error(errno));
    child::default_signals().map_err(errno("setting signals"))?;
    child::signal_mask(SIGNALS).map_err(errno("setting signals"))?;
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).map_err(errno("hiding this process"))?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map_err(errno("giving up privileges"))?;
    child::filter(&plan).map_err(errno("installing the system-call filter"))?;
    match child::start_main(&mut plan) {
        Ok(main) => attend(plan.control, main),
        Err((stage, errno)) => child::fail(plan.control, stage, errno, 1),
    }
}

fn read_job() -> std::io::Result<Job> {
    let mut text = Vec::new();
    std::fs::File::open(JOB_PATH)?.take(JOB_BYTES_MAX).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(std::io::Error::other)
}

fn plan(job: Job, control: RawFd, filters: Vec<seccompiler::BpfProgram>) -> Result<Plan, String> {
    let strings = |all: Vec<String>| all.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let nul = |_| "an argument holds a NUL".to_owned();
    let (argv, env) = (strings(job.argv).map_err(nul)?, strings(job.env).map_err(nul)?);
    let candidates = strings(job.candidates).map_err(nul)?;
    let program = match job.probe {
        Some(lure) => Program::Probe(lure.into()),
        None => Program::exec(candidates, argv, env),
    };
    Ok(Plan {
        control,
        stdio: [0, 1, 2],
        switch_ids: false,
        trees: Vec::new(),
        steps: Vec::new(),
        root_options: Vec::new(),
        filters,
        // The runtime has set them: not every kernel lets a process set all of them itself.
        rlimits: Vec::new(),
        processors: Vec::new(),
        cwd: CString::new(job.cwd).map_err(nul)?,
        program,
        stop: None,
        way_out: None,
        keep: Vec::new(),
        arguments: None,
    })
}

/// Those that this process hears of through a descriptor.
const SIGNALS: u64 = 1 << (libc::SIGCHLD - 1) | 1 << (libc::SIGTERM - 1);

/// Reaps until the main process ends, then ends what is left and tells.
fn attend(end: RawFd, main: c_int) -> ! {
    let mask = SIGNALS;
    let signals = match check(call!(libc::SYS_signalfd4, -1, &raw const mask, 8usize, libc::SFD_CLOEXEC)) {
        Ok(fd) => fd as RawFd,
        Err(errno) => child::fail(end, crate::engine::plan::Stage::Start, errno, 1),
    };
    loop {
        if let Some(status) = child::reap(main) {
            finish(end, status);
        }
        // `struct signalfd_siginfo` begins with the number of the signal.
        let mut news = [0u8; 128];
        let got = check(call!(libc::SYS_read, signals, news.as_mut_ptr(), news.len()));
        let [number, ..] = news;
        if got.is_ok() && i32::from(number) == libc::SIGTERM {
            let _ = check(call!(libc::SYS_kill, -main, libc::SIGTERM));
        }
    }
}

fn finish(end: RawFd, status: c_int) -> ! {
    // The others first, so that none of them writes after it.
    call!(libc::SYS_kill, -1, libc::SIGKILL);
    let none = std::ptr::null_mut::<u8>();
    while check(call!(libc::SYS_wait4, -1, none, 0, none)).is_ok() {}
    let _ = sys::write_all(end, &Message::Ended(status).encode());
    sys::exit(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) })
}
