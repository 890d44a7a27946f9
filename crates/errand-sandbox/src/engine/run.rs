//! One call from beginning to end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::cgroup::Group;
use super::launch::{Running, Wires, launch, setup, text};
use super::nest;
use super::nest::order::{Kind, Order, STRINGS_MAX};
use super::plan::{Message, Plan, Program, Stage, Tree};
use super::sink::Sink;
use super::view::{c_string, tmpfs_options};
use super::watch::{Usage, Watch};
use super::{Engine, launch as launching, sys};
use crate::door::{DOOR, WayOut};
use crate::error::{Error, Result};
use crate::exec::{CancelToken, Exec, ExecOutcome, Exit, OnOutput, Profile, Stream, WORKSPACE_DIR};
use crate::image::{IMAGE_DIR, Image};
use crate::limits::Limits;
use crate::report::Strength;
use crate::session::{Session, paths};

pub(crate) const CELL_BYTES_MAX: usize = 8 << 20;
const ARGUMENT_BYTES_MAX: usize = 100 << 10;

impl Engine {
    /// Runs something in a fresh box over the session's workspace; returns when every process of the box is gone.
    ///
    /// Blocks the calling thread, which must live as long as the call: the box dies with it.
    ///
    /// # Errors
    /// [`Error::LimitOutOfRange`], [`Error::ExecRefused`], [`Error::PathRefused`] (`cwd`), [`Error::WorkspaceTooLarge`] (before the start),
    /// [`Error::ProgramNotStarted`], [`Error::Setup`] or [`Error::Io`]. A program that fails, is killed or uses up a limit is
    /// no error but an [`Exit`].
    pub fn run(&self, session: &Session, mut exec: Exec) -> Result<ExecOutcome> {
        let begun = Instant::now();
        admit(session, &exec)?;
        let (running, namespaces) = match self.run_ahead(session, &exec) {
            Some(made) => made,
            None => (self.run_now(session, &exec)?, Vec::new()),
        };
        let on_output = exec.on_output.take();
        let call = Call::new(session, &exec, running, begun, on_output, self.quotas().memory != Strength::Hard);
        let program = exec.argv.first().map_or("", String::as_str);
        let (outcome, group) = call.attend(program)?;
        self.bury(group, namespaces);
        Ok(outcome)
    }

    /// In a box that was made ahead, if there is one and the call fits in; with namespaces to be held on to while it ends.
    fn run_ahead(&self, session: &Session, exec: &Exec) -> Option<(Running, Vec<OwnedFd>)> {
        let is_plain = exec.way_out_in(session).is_none()
            && session.image().is_none()
            && session.lacks_image().is_none()
            && exec.profile == Profile::Code;
        if !is_plain {
            return None;
        }
        let shell = self.shell()?;
        let order = super::zygote::order(self, exec);
        if order.argv.len() + order.env.len() > STRINGS_MAX {
            return None;
        }
        let order = Order { cwd: cwd(&exec.cwd).ok()?, ..order };
        let wires = Wires::new(exec.stdin.as_deref()).ok()?;
        let (running, _) = shell.fill(session, Kind::Program, order, wires, &exec.limits).ok()?;
        // Where it cannot be filled the call gets a box of its own, which says why.
        let namespaces = nest::namespaces(&running).ok()?;
        Some((running, namespaces))
    }

    fn run_now(&self, session: &Session, exec: &Exec) -> Result<Running> {
        let wires = Wires::new(exec.stdin.as_deref())?;
        let program = self.program(session, exec);
        let mut plan = self.plan(session, &exec.files, &exec.cwd, &exec.limits, program)?;
        plan.filters = self.filters(exec.profile)?;
        plan.way_out = exec.way_out_in(session);
        wires.plug_into(&mut plan);
        launch(&mut plan, wires, &self.groups, &exec.limits, session.host_ids())
    }

    /// The whole box, but for its wires.
    pub(crate) fn plan(
        &self,
        session: &Session,
        files: &[(String, Vec<u8>)],
        cwd: &str,
        limits: &Limits,
        program: Program,
    ) -> Result<Plan> {
        let workspace = workspace_tree(session)?;
        let image = session.image_to_show()?.or(self.image.as_ref());
        let (mut trees, steps) = self.view.build(workspace, image.map(Image::path), files, limits);
        let switch_ids = session.owner().needs_chown();
        if switch_ids {
            trees = trees.into_iter().map(launching::clone_tree).collect::<Result<_>>()?;
        }
        Ok(Plan {
            control: -1,
            stdio: [-1; 3],
            switch_ids,
            trees,
            steps,
            root_options: tmpfs_options(CELL_BYTES_MAX as u64 + (4 << 20), "0755"),
            filters: self.filters.clone(),
            rlimits: self.rlimits(limits),
            processors: self.processors(limits),
            cwd: self::cwd(cwd)?,
            program,
            stop: None,
            way_out: session.way_out().cloned(),
            keep: Vec::new(),
            arguments: own_arguments(),
        })
    }

    pub(super) fn program(&self, session: &Session, exec: &Exec) -> Program {
        let env =
            self.environment(session, exec).into_iter().map(|(name, value)| c_string(format!("{name}={value}"))).collect();
        let name = exec.argv.first().map_or("", String::as_str);
        let candidates = self.candidates(name).into_iter().map(c_string).collect();
        Program::exec(candidates, exec.argv.iter().map(c_string).collect(), env)
    }

    /// A clean environment; the caller's variables win.
    pub(crate) fn environment(&self, session: &Session, exec: &Exec) -> Vec<(String, String)> {
        self.environment_of(session.image().is_some(), exec.way_out_environment(session), exec)
    }

    pub(super) fn environment_of(&self, has_image: bool, more: Vec<(String, String)>, exec: &Exec) -> Vec<(String, String)> {
        let has_image = has_image || self.image.is_some();
        let mut path = self.search_path().join(":");
        if has_image {
            path.push_str(&format!(":{IMAGE_DIR}/bin"));
        }
        let mut all: Vec<(String, String)> = [
            ("PATH", path.as_str()),
            ("HOME", WORKSPACE_DIR),
            ("USER", "errand"),
            ("LANG", "C.UTF-8"),
            ("TMPDIR", "/tmp"),
            ("XDG_CACHE_HOME", "/tmp/.cache"),
            ("XDG_CONFIG_HOME", "/tmp/.config"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
        ]
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .into();
        all.extend(more);
        for (name, value) in &exec.env {
            all.retain(|(known, _)| known != name);
            all.push((name.clone(), value.clone()));
        }
        if has_image {
            // Behind what the caller wants found first.
            match all.iter_mut().find(|(name, _)| name == "PYTHONPATH") {
                Some((_, folders)) => folders.push_str(&format!(":{IMAGE_DIR}")),
                None => all.push(("PYTHONPATH".into(), IMAGE_DIR.into())),
            }
        }
        all
    }
}

/// A folder of the workspace as the box knows it.
fn cwd(cwd: &str) -> Result<std::ffi::CString> {
    let cwd = paths::checked(cwd)?;
    Ok(c_string(if cwd.is_empty() { WORKSPACE_DIR.to_string() } else { format!("{WORKSPACE_DIR}/{cwd}") }))
}

/// Refuses a call that is malformed, asks for too much, or has no room left in its workspace.
pub(crate) fn admit(session: &Session, exec: &Exec) -> Result<()> {
    exec.limits.validate()?;
    check(exec)?;
    let usage = Usage::of(session, &exec.limits)?;
    if usage.fits(&exec.limits) { Ok(()) } else { Err(usage.error(&exec.limits)) }
}

/// What is wrong with a call before anything is made for it.
fn check(exec: &Exec) -> Result<()> {
    let refuse = |reason: String| Err(Error::ExecRefused { reason });
    if exec.argv.first().is_none_or(String::is_empty) {
        return refuse("it names no program: give it as the first of argv".into());
    }
    if exec.argv.iter().any(|argument| argument.len() > ARGUMENT_BYTES_MAX) {
        return refuse("an argument is longer than 100 KiB: pass it as a file or on standard input".into());
    }
    let mut texts = exec.argv.iter().chain(exec.env.iter().flat_map(|(name, value)| [name, value]));
    if texts.any(|text| text.contains('\0')) {
        return refuse("an argument or variable contains a NUL byte".into());
    }
    if let Some((name, _)) = exec.env.iter().find(|(name, _)| name.is_empty() || name.contains('=')) {
        return refuse(format!("{name:?} is no name for a variable"));
    }
    let bad = |name: &str| name.is_empty() || name.len() > 255 || name.contains(['/', '\0']) || name == "." || name == "..";
    if let Some((name, _)) = exec.files.iter().find(|(name, _)| bad(name)) {
        return refuse(format!("{name:?} is no plain file name"));
    }
    let mut names: Vec<&str> = exec.files.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return refuse("two files have the same name".into());
    }
    if exec.files.len() > 100 || exec.files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > CELL_BYTES_MAX {
        return refuse("the code is larger than 8 MiB: put data into the workspace".into());
    }
    paths::checked(&exec.cwd).map(drop)
}

pub(super) fn workspace_tree(session: &Session) -> Result<Tree> {
    let source = session.workspace_path();
    let identity =
        sys::identity(std::os::fd::AsRawFd::as_raw_fd(&session.dir())).map_err(|errno| setup(Stage::HostFolder, errno))?;
    let attr = sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV;
    let tree = Tree { source: c_string(source), identity: Some(identity), recursive: false, attr, fd: -1, _owned: None };
    match session.volume() {
        Some(volume) => volume.tree(tree),
        None => Ok(tree),
    }
}

/// A call under way.
pub(crate) struct Call<'a> {
    had_way_out: bool,
    session: &'a Session,
    limits: &'a Limits,
    cancel: Option<&'a CancelToken>,
    running: Running,
    begun: Instant,
    on_output: Option<OnOutput>,
    sinks: [Sink<'a>; 2],
    open: [bool; 2],
    watch: Watch<'a>,
    /// Decided from outside, before the main process ended.
    verdict: Option<Exit>,
    kill_at: Option<Instant>,
    ended: Option<i32>,
    failed: Option<(Stage, i32)>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        session: &'a Session,
        exec: &'a Exec,
        running: Running,
        begun: Instant,
        on_output: Option<OnOutput>,
        watch_memory: bool,
    ) -> Call<'a> {
        let limits = &exec.limits;
        let sink = |stream| Sink::new(session, stream, limits.output_bytes, limits.output_file_bytes);
        Call {
            had_way_out: exec.way_out_in(session).is_some(),
            session,
            limits,
            cancel: exec.cancel.as_ref(),
            begun,
            on_output,
            sinks: [sink(Stream::Stdout), sink(Stream::Stderr)],
            open: [true; 2],
            watch: Watch::new(session, limits, running.roots(), watch_memory),
            running,
            verdict: None,
            kill_at: None,
            ended: None,
            failed: None,
        }
    }

    /// Sees to the box until it is gone.
    pub(crate) fn attend(mut self, program: &str) -> Result<(ExecOutcome, Group)> {
        while !self.turn()? {}
        self.drain();
        self.outcome(program)
    }

    /// Waits for the next thing to happen and sees to it; true when the box is gone.
    fn turn(&mut self) -> Result<bool> {
        let ready = self.wait()?;
        if ready.cancel && self.verdict != Some(Exit::Cancelled) {
            self.stop(Exit::Cancelled);
        }
        self.read_output(ready.output);
        if ready.gone {
            return Ok(true);
        }
        let now = Instant::now();
        if self.verdict.is_none() && now >= self.begun + self.limits.wall {
            self.verdict = Some(Exit::TimedOut);
            self.kill_at = Some(now + self.limits.grace);
            self.running.terminate();
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            self.kill_at = None;
            self.running.kill();
        }
        if self.verdict.is_none()
            && let Some(exit) = self.watch.look()
        {
            self.stop(exit);
        }
        Ok(false)
    }

    fn stop(&mut self, exit: Exit) {
        self.verdict = Some(exit);
        self.kill_at = None;
        self.running.kill();
    }

    fn wait(&self) -> Result<Ready> {
        let wanted = |fd: BorrowedFd<'a>| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        // Rebuilt each turn because closed streams drop out.
        let pidfd = self.running.pidfd.as_fd();
        let mut fds = vec![PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
        let streams = [self.running.stdout.as_fd(), self.running.stderr.as_fd()];
        let mut places = [None; 2];
        for (index, fd) in streams.into_iter().enumerate() {
            if self.open[index] {
                places[index] = Some(fds.len());
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
            }
        }
        let cancel_place = self.cancel.filter(|_| self.verdict != Some(Exit::Cancelled)).map(|token| {
            fds.push(wanted(token.fd()));
            fds.len() - 1
        });
        match poll(&mut fds, Some(&timespec(self.patience()))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::io("waiting for a box", "poll", e)),
        }
        let ready = |place: usize| !fds[place].revents().is_empty();
        Ok(Ready {
            gone: ready(0),
            output: places.map(|place| place.is_some_and(ready)),
            cancel: cancel_place.is_some_and(ready),
        })
    }

    /// How long nothing has to be done.
    fn patience(&self) -> Duration {
        let next = match (self.verdict, self.kill_at) {
            (None, _) => self.watch.next.min(self.begun + self.limits.wall),
            (Some(_), Some(at)) => at,
            (Some(_), None) => Instant::now() + Duration::from_secs(1),
        };
        next.saturating_duration_since(Instant::now())
    }

    fn read_output(&mut self, ready: [bool; 2]) {
        let mut buffer = [0u8; 64 << 10];
        for (index, ready) in ready.into_iter().enumerate() {
            if !ready {
                continue;
            }
            let fd = if index == 0 { &self.running.stdout } else { &self.running.stderr };
            match rustix::io::read(fd, &mut buffer) {
                Ok(0) => self.open[index] = false,
                Ok(count) => self.sinks[index].take(&buffer[..count], &mut self.on_output),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(_) => self.open[index] = false,
            }
        }
    }

    /// What is still in the pipes and on the socket once every writer is gone.
    fn drain(&mut self) {
        let mut buffer = [0u8; 64 << 10];
        for index in 0..2 {
            let fd = if index == 0 { &self.running.stdout } else { &self.running.stderr };
            while let Ok(count) = rustix::io::read(fd, &mut buffer) {
                if count == 0 {
                    break;
                }
                self.sinks[index].take(&buffer[..count], &mut self.on_output);
            }
        }
        while let Some(message) = self.running.message() {
            match message {
                Message::Ended(status) => self.ended = Some(status),
                Message::Failed(stage, errno) => self.failed = Some((stage, errno)),
                Message::Started | Message::Interrupted | Message::Used(_) | Message::Door => {}
            }
        }
    }

    fn outcome(self, program: &str) -> Result<(ExecOutcome, Group)> {
        let (group, cpu) = self.running.wait();
        let wall = self.begun.elapsed();
        if let (None, Some((stage, errno))) = (self.verdict, self.failed) {
            let [_, stderr] = self.sinks.map(Sink::finish);
            return Err(match stage {
                Stage::Runtime => Error::RuntimeFailed { said: last_words(&stderr.kept) },
                stage => not_started(stage, errno, program),
            });
        }
        let oom_kills = group.oom_kills();
        let usage = Usage::of(self.session, self.limits)?;
        let exit = match self.verdict {
            Some(exit) => exit,
            None if !usage.fits(self.limits) => Exit::OverQuota,
            None => natural(self.ended, oom_kills),
        };
        let [stdout, stderr] = self.sinks.map(Sink::finish);
        let outcome = ExecOutcome {
            exit,
            stdout,
            stderr,
            wall,
            cpu,
            memory_peak_bytes: group.memory_peak(),
            oom_kills,
            workspace_bytes: usage.bytes,
            workspace_files: usage.files,
            had_way_out: self.had_way_out,
        };
        Ok((outcome, group))
    }
}

impl Exec {
    /// What leads out of its box.
    pub(crate) fn way_out_in(&self, session: &Session) -> Option<Arc<dyn WayOut>> {
        self.way_out.as_ref().or(session.way_out()).filter(|_| !self.is_sealed).cloned()
    }

    /// Variables that tell of it.
    pub(crate) fn way_out_environment(&self, session: &Session) -> Vec<(String, String)> {
        self.way_out_in(session).map(|way_out| way_out.environment(DOOR)).unwrap_or_default()
    }
}

struct Ready {
    gone: bool,
    output: [bool; 2],
    cancel: bool,
}

pub(super) fn not_started(stage: Stage, errno: i32, program: &str) -> Error {
    match stage {
        Stage::Exec => Error::ProgramNotStarted { program: program.into(), errno: text(errno) },
        Stage::WorkingFolder => {
            Error::ExecRefused { reason: format!("the working folder cannot be entered ({}): make it first", text(errno)) }
        }
        stage => setup(stage, errno),
    }
}

/// The end of what a runtime wrote, in one line that is safe to show.
pub(crate) fn last_words(stderr: &[u8]) -> String {
    const CHARACTERS_MAX: usize = 500;
    let text = String::from_utf8_lossy(stderr);
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: Vec<char> = words.join(" ").chars().filter(|one| !one.is_control()).collect();
    let begin = line.len().saturating_sub(CHARACTERS_MAX);
    if line.is_empty() { "it said nothing".to_owned() } else { line[begin..].iter().collect() }
}

/// How the main process ended by itself, from its wait status; none means that init was killed with it.
pub(super) fn natural(status: Option<i32>, oom_kills: u64) -> Exit {
    let exit = match status {
        Some(status) if libc::WIFEXITED(status) => Exit::Code(libc::WEXITSTATUS(status)),
        Some(status) => Exit::Signal(libc::WTERMSIG(status)),
        None => Exit::Signal(libc::SIGKILL),
    };
    match exit {
        Exit::Code(0) => exit,
        Exit::Signal(libc::SIGXFSZ) => Exit::OverQuota,
        _ if oom_kills > 0 => Exit::OutOfMemory,
        exit => exit,
    }
}

pub(crate) fn timespec(duration: Duration) -> Timespec {
    let tv_sec = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec, tv_nsec: i64::from(duration.subsec_nanos()) }
}

/// Where the kernel reads this process's command line from (fields 48 and 49 of proc_pid_stat(5)).
pub(super) fn own_arguments() -> Option<(usize, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; field 3 follows it.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(48 - 3);
    let (start, end): (usize, usize) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    // The kernel gives a process a quarter of its stack limit for these, 6 MiB at most.
    (start > 0 && end > start && end - start <= 6 << 20).then_some((start, end - start))
}
