//! The probe: before any box is offered, one is made and everything in the checklist is tried from inside it.
//!
//! Isolation must pass whole. Two attempts concern quotas that a host may lack; they decide over the quota alone.

mod browser;
mod calls;
pub(crate) mod container;
mod files;
mod identity;
pub(crate) mod inside;
mod network;
pub(crate) mod resources;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use seccompiler::BpfProgram;

use super::launch::{Running, Wires, launch, text};
use super::nest::Nest;
use super::nest::order::Kind;
use super::plan::{Message, Plan, Program};
use super::view::c_string;
use super::{Engine, cgroup, zygote};
use crate::error::{Error, Result, Tier};
use crate::exec::Exec;
use crate::report::{Check, Quotas, Report, Strength};
use crate::session::{Session, Sessions};
use inside::{ANSWER_BYTES, Attempted, Baits, Expect, GROUPS, Spec};

/// The whole probe must be over by then.
const TIME_MAX: Duration = Duration::from_secs(3);

/// More than all answers together.
const ANSWERS_BYTES_MAX: usize = 64 << 10;

/// Makes a box and tries to break out of it.
pub(crate) fn probe(engine: &Engine) -> Report {
    let begun = Instant::now();
    report(engine, attempt(engine, false, &mut |_| ()), || elapsed_ms(begun))
}

/// The same in a box that something was changed about, which the report must tell.
pub(crate) fn rehearse(engine: &Engine, change: &mut dyn FnMut(&mut Plan)) -> Report {
    let begun = Instant::now();
    report(engine, attempt(engine, false, change), || elapsed_ms(begun))
}

/// The same in a box that a nest makes, over the baits that it was started with.
pub(crate) fn probe_nest(engine: &Engine, nest: &Arc<Nest>, place: &Place) -> Report {
    let begun = Instant::now();
    let limits = resources::limits();
    let made = Wires::new(None).and_then(|wires| {
        let exec = Exec { limits: limits.clone(), ..Exec::new(["probe"]) };
        let shell = nest.shell(engine, &limits)?;
        let order = zygote::order(engine, &exec);
        shell.fill(&place.session, Kind::Probe, order, wires, &limits).map(|(running, _)| running)
    });
    report(engine, made.and_then(answers), || elapsed_ms(begun))
}

/// The same with the filters of the profile `browser`: but for its exceptions all must hold, and more is tried from within a
/// user namespace of the box's own making, where an attacker has every right.
pub(crate) fn probe_browser(engine: &Engine, filters: &[BpfProgram]) -> Report {
    let begun = Instant::now();
    match attempt(engine, true, &mut |plan| plan.filters = filters.to_vec()) {
        Ok(answers) => {
            let mut checks = judge(&answers);
            checks.retain(|check| !browser::EXCEPTIONS.contains(&check.id.as_str()));
            let own = (inside::BROWSER_FIRST..).zip(browser::CHECKS);
            checks.extend(own.map(|(index, spec)| check(spec, answers.get(&index).copied())));
            conclude(engine, checks, elapsed_ms(begun))
        }
        Err(error) => Report::unavailable(Tier::T1, vec![explain(&error)], Vec::new(), elapsed_ms(begun)),
    }
}

fn elapsed_ms(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn report(engine: &Engine, answers: Result<Answers>, elapsed_ms: impl Fn() -> u64) -> Report {
    match answers {
        Ok(answers) => conclude(engine, judge(&answers), elapsed_ms()),
        Err(error) => Report::unavailable(Tier::T1, vec![explain(&error)], Vec::new(), elapsed_ms()),
    }
}

fn conclude(engine: &Engine, checks: Vec<Check>, elapsed_ms: u64) -> Report {
    let failed = checks.iter().filter(|check| !check.pass && quota_of(&check.id).is_none());
    let reasons: Vec<String> = failed
        .map(|check| format!("check {} ({}): {}, expected {}", check.id, check.what, check.found, check.expected))
        .collect();
    let quotas = weakened(engine.quotas(), &checks);
    Report { tier: Tier::T1, available: reasons.is_empty(), reasons, quotas, checks, elapsed_ms }
}

/// The answers by number of the check.
pub(crate) type Answers = BTreeMap<u16, Attempted>;

/// `browser` says that the box has the profile of browsers, which `change` gives it.
fn attempt(engine: &Engine, browser: bool, change: &mut dyn FnMut(&mut Plan)) -> Result<Answers> {
    let place = Place::new()?;
    let limits = resources::limits();
    let wires = Wires::new(None)?;
    let baits = Baits { browser, ..place.baits()? };
    let mut plan = engine.plan(&place.session, &[], "", &limits, Program::Probe(baits))?;
    change(&mut plan);
    wires.plug_into(&mut plan);
    answers(launch(&mut plan, wires, &engine.groups, &limits, place.session.host_ids())?)
}

fn answers(running: Running) -> Result<Answers> {
    let bytes = listen(&running, TIME_MAX, &mut || ());
    let failure = std::iter::from_fn(|| running.message()).find_map(|message| match message {
        Message::Failed(stage, errno) => Some(Error::Setup { stage: stage.text(), errno: text(errno) }),
        _ => None,
    });
    drop::<(cgroup::Group, Duration)>({
        running.kill();
        running.wait()
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(read(&bytes)),
    }
}

pub(crate) fn read(bytes: &[u8]) -> Answers {
    bytes.chunks_exact(ANSWER_BYTES).filter_map(|chunk| chunk.try_into().ok()).map(inside::decode).collect()
}

/// What a probe found that wrote these answers.
pub(crate) fn report_of(engine: &Engine, bytes: &[u8]) -> Report {
    report(engine, Ok(read(bytes)), || 0)
}

/// Everything the box writes until it is gone or the time is up; looks at it each time that more has come.
pub(crate) fn listen(running: &Running, patience: Duration, look: &mut dyn FnMut()) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = [0u8; 4096];
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let wait = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut fds = [PollFd::new(&running.pidfd, PollFlags::IN), PollFd::new(&running.stdout, PollFlags::IN)];
        let woken = poll(&mut fds, Some(&wait));
        let gone = !fds[0].revents().is_empty() || left.is_zero() || woken.is_err();
        while let Ok(count) = rustix::io::read(&running.stdout, &mut buffer) {
            if count == 0 {
                break;
            }
            // Only a runtime that is none writes more than the answers.
            let room = ANSWERS_BYTES_MAX - bytes.len();
            bytes.extend_from_slice(&buffer[..count.min(room)]);
            look();
        }
        if gone {
            return bytes;
        }
    }
}

pub(crate) fn judge(answers: &Answers) -> Vec<Check> {
    let specs = GROUPS.iter().flat_map(|group| group.iter());
    specs.zip(0u16..).map(|(spec, index)| check(spec, answers.get(&index).copied())).collect()
}

pub(crate) fn check(spec: &Spec, answer: Option<Attempted>) -> Check {
    let found = match answer {
        None => "no answer".into(),
        Some(Ok(0)) if matches!(spec.expect, Expect::Refused(_)) => "it worked".into(),
        Some(Ok(value)) => value.to_string(),
        Some(Err(errno)) => errno_name(errno),
    };
    Check {
        id: spec.id.into(),
        what: spec.what.into(),
        expected: expectation(spec.expect),
        found,
        pass: answer.is_some_and(|answer| meets(spec.expect, answer)),
    }
}

pub(crate) fn meets(expect: Expect, answer: Attempted) -> bool {
    match (expect, answer) {
        (Expect::Refused(errnos), Err(errno)) => errnos.contains(&errno),
        (Expect::Value(wanted), Ok(value)) => value == wanted,
        (Expect::Within(low, high), Ok(value)) => (low..=high).contains(&value),
        _ => false,
    }
}

fn expectation(expect: Expect) -> String {
    match expect {
        Expect::Refused(errnos) => errnos.iter().map(|errno| errno_name(*errno)).collect::<Vec<_>>().join(" or "),
        Expect::Value(value) => value.to_string(),
        Expect::Within(low, i64::MAX) => format!("{low} or more"),
        Expect::Within(low, high) => format!("{low} to {high}"),
    }
}

/// The symbol of an errno, where one is known here.
fn errno_name(errno: i32) -> String {
    let known = [
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::ESRCH, "ESRCH"),
        (libc::EACCES, "EACCES"),
        (libc::ENOTDIR, "ENOTDIR"),
        (libc::EISDIR, "EISDIR"),
        (libc::EINVAL, "EINVAL"),
        (libc::EMFILE, "EMFILE"),
        (libc::EFBIG, "EFBIG"),
        (libc::ENOSPC, "ENOSPC"),
        (libc::EROFS, "EROFS"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
        (libc::EADDRNOTAVAIL, "EADDRNOTAVAIL"),
        (libc::ENETUNREACH, "ENETUNREACH"),
        (libc::EHOSTUNREACH, "EHOSTUNREACH"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
    ];
    known.iter().find(|(number, _)| *number == errno).map_or_else(|| text(errno), |(_, name)| (*name).into())
}

pub(crate) fn quota_of(id: &str) -> Option<&'static str> {
    match id {
        resources::PROCESSES_ID => Some("processes"),
        resources::MEMORY_ID => Some("memory"),
        _ => None,
    }
}

/// A quota whose attempt was not stopped is absent, whatever the host promises.
pub(crate) fn weakened(mut quotas: Quotas, checks: &[Check]) -> Quotas {
    for check in checks.iter().filter(|check| !check.pass) {
        match quota_of(&check.id) {
            Some("processes") => quotas.processes = Strength::Absent,
            Some(_) => quotas.memory = Strength::Absent,
            None => {}
        }
    }
    quotas
}

/// In one line, why no box could be made, and what to look at.
pub(crate) fn explain(error: &Error) -> String {
    let hint = match error {
        Error::Setup { stage: "making its namespaces", .. } => {
            " (the host refuses user namespaces: see user.max_user_namespaces, kernel.unprivileged_userns_clone, \
             kernel.apparmor_restrict_unprivileged_userns, or the container's seccomp profile)"
        }
        Error::Setup { stage: "mounting its /proc", .. } => {
            " (parts of the host's own /proc are covered, as in most containers)"
        }
        Error::Setup { stage: "filling its root" | "mounting its root", .. } => " (Linux 5.12 or newer is needed)",
        _ => "",
    };
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}{hint}")
}

/// The probe's own session, and baits beside it; all removed when dropped.
pub(crate) struct Place {
    folder: PathBuf,
    pub(crate) session: Session,
    _tcp: TcpListener,
    port: u16,
    _unix: UnixListener,
    socket: Vec<u8>,
}

impl Place {
    pub(crate) fn new() -> Result<Place> {
        let folder = private_temporary()?;
        Place::within(&folder).inspect_err(|_| {
            let _ = std::fs::remove_dir_all(&folder);
        })
    }

    fn within(folder: &Path) -> Result<Place> {
        let io = |e: std::io::Error| Error::io("laying out the probe's baits", folder, e);
        let session = Sessions::at(folder.join("sessions"))?.create("probe")?;
        std::fs::create_dir(folder.join("neighbour")).map_err(io)?;
        let mut bait = std::fs::File::create(folder.join("bait")).map_err(io)?;
        bait.write_all(b"a file of the host\n").map_err(io)?;
        let tcp = TcpListener::bind(("127.0.0.1", 0)).map_err(io)?;
        let port = tcp.local_addr().map_err(io)?.port();
        let socket = format!("errand-probe-{}-{port}", std::process::id()).into_bytes();
        let address = <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&socket);
        let unix = address.and_then(|address| UnixListener::bind_addr(&address)).map_err(io)?;
        Ok(Place { folder: folder.into(), session, _tcp: tcp, port, _unix: unix, socket })
    }

    pub(crate) fn baits(&self) -> Result<Baits> {
        Ok(Baits {
            file: c_string(self.folder.join("bait")),
            neighbour: c_string(self.folder.join("neighbour")),
            port: self.port,
            socket: self.socket.clone(),
            pid: i32::try_from(std::process::id()).unwrap_or(i32::MAX),
            hog_bytes: 2 * resources::limits().memory_bytes,
            kernel: None,
            browser: false,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A fresh folder of this user's alone in the system's temporary folder.
pub(crate) fn private_temporary() -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let base = std::env::temp_dir();
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    for attempt in 0..16u32 {
        let folder = base.join(format!("errand-probe-{}-{nanos}-{attempt}", std::process::id()));
        match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io("making a folder for the probe", folder, e)),
        }
    }
    Err(Error::io("making a folder for the probe", base, std::io::Error::from(std::io::ErrorKind::AlreadyExists)))
}
