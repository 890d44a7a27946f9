//! Boxes with a program of ours in them that stays: it serves whoever holds the other end of its standard input.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::Engine;
use super::idle::Idle;
use super::launch::{Running, Wires, clone_tree, launch, setup};
use super::plan::{Message, Plan, Stage, Step};
use super::run::{not_started, timespec};
use super::spawner::Spawner;
use super::view::{READ_ONLY, c_string, system_tree};
use super::watch::Usage;
use crate::error::{Error, Result};
use crate::exec::{Exec, WORKSPACE_DIR};
use crate::report::Strength;
use crate::session::Session;

/// Where a resident finds itself.
const PROGRAM: &str = "/run/errand/resident";
/// Where programs of other services expect the user's files; the workspace, by another name.
const HOME: &str = "home/user";

/// A program in a box of its own, over the workspace of a session. Dropping it kills the box.
#[derive(Debug)]
pub struct Resident {
    // First, so that the box is gone before the session is let go of.
    idle: Option<Idle>,
    running: Running,
    session: Arc<Session>,
    /// The box would die with the thread that made it.
    _spawner: Arc<Spawner>,
}

impl Engine {
    /// Starts `program`, a file of the host that runs with what the system has, in a fresh box over the session's workspace,
    /// which it also finds as `/home/user`. `exec` says the rest: its `argv` follows the program's name, and its limits hold for
    /// everything in the box together, but for the wall time. `stdin` becomes its standard input; what it writes to its
    /// other standard streams is not read. It lives until it ends or the resident is dropped, whichever thread called.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn resident(
        self: &Arc<Self>,
        session: &Arc<Session>,
        program: &Path,
        mut exec: Exec,
        stdin: OwnedFd,
    ) -> Result<Resident> {
        exec.limits.validate()?;
        let usage = Usage::of(session, &exec.limits)?;
        if !usage.fits(&exec.limits) {
            return Err(usage.error(&exec.limits));
        }
        exec.argv.insert(0, PROGRAM.to_owned());
        let limits = exec.limits.clone();
        let spawner = self.spawner()?;
        let (engine, its, program) = (Arc::clone(self), Arc::clone(session), program.to_owned());
        let started = spawner.run(move || -> Result<Running> {
            let wires = Wires::with_stdin(stdin)?;
            let mut plan = engine.plan(&its, &exec.files, &exec.cwd, &exec.limits, engine.program(&its, &exec))?;
            plan.way_out = exec.way_out_in(&its);
            show(&mut plan, &program)?;
            wires.plug_into(&mut plan);
            launch(&mut plan, wires, &engine.groups, &exec.limits, its.host_ids())
        });
        let running = started.unwrap_or_else(|| Err(setup(Stage::Start, libc::ESRCH)))?;
        let watch_memory = self.quotas().memory != Strength::Hard;
        wait_for_start(&running)?;
        let idle = Idle::start(&running, session, &limits, watch_memory);
        Ok(Resident { idle, running, session: Arc::clone(session), _spawner: Arc::clone(spawner) })
    }
}

impl Resident {
    /// True while its box stands.
    pub fn is_alive(&self) -> bool {
        let was_killed = self.idle.as_ref().is_none_or(Idle::has_ended);
        let mut fds = [PollFd::from_borrowed_fd(self.running.pidfd.as_fd(), PollFlags::IN)];
        !was_killed && matches!(poll(&mut fds, Some(&timespec(Duration::ZERO))), Ok(0))
    }

    /// The session whose workspace it has.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

/// Adds the program and the other name of the workspace to what the box sees.
fn show(plan: &mut Plan, program: &Path) -> Result<()> {
    let mut tree = system_tree(program, READ_ONLY);
    tree.recursive = false;
    let tree = if plan.switch_ids { clone_tree(tree)? } else { tree };
    let place = c_string(PROGRAM.trim_start_matches('/'));
    plan.steps.push(Step::File(place.clone(), Vec::new()));
    plan.steps.push(Step::Attach(plan.trees.len(), place));
    plan.trees.push(tree);
    plan.steps.push(Step::Dir(c_string("home")));
    plan.steps.push(Step::Link(c_string(WORKSPACE_DIR), c_string(HOME)));
    Ok(())
}

/// Returns once the program runs, or tells why it does not.
fn wait_for_start(running: &Running) -> Result<()> {
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(running.control.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(running.pidfd.as_fd(), PollFlags::IN),
        ];
        // Setting a box up is bounded by what init does; when init is gone its descriptor tells.
        poll(&mut fds, None).map_err(|e| Error::io("waiting for a box", "poll", e))?;
        let gone = !fds[1].revents().is_empty();
        while let Some(message) = running.message() {
            match message {
                Message::Started => return Ok(()),
                Message::Failed(stage, errno) => return Err(not_started(stage, errno, PROGRAM)),
                Message::Ended(_) | Message::Interrupted | Message::Used(_) | Message::Door => {}
            }
        }
        if gone {
            return Err(setup(Stage::Start, libc::ESRCH));
        }
    }
}
