//! Tier T2: the box of tier T1 as an OCI bundle, given to a runtime that the user configured.
//!
//! `bundle` makes the bundle from the same view (`spec` is its `config.json`), `guard` is the process that starts the runtime
//! and takes all with it, `inside` is the first process in the box, `job` what it reads, `probe` tries to break out.
//! What attends to a call, its streams and its quotas is tier T1's.

mod allowances;
mod bundle;
mod guard;
mod inside;
pub(crate) mod job;
mod probe;
mod rehearse;
mod spec;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::config::{Interpreter, OciConfig, RuntimeKind};
use crate::engine::launch::{Running, Wires, clone_tree, launch_guard};
use crate::engine::plan::{Plan, Program, Step};
use crate::engine::run::{CELL_BYTES_MAX, Call, admit};
use crate::engine::view::{c_string, tmpfs_options};
use crate::engine::{Engine, launch};
use crate::error::{Error, Result, Tier};
use crate::exec::{Exec, ExecOutcome, Profile, WORKSPACE_DIR};
use crate::image::Image;
use crate::isolation::Isolation;
use crate::limits::Limits;
use crate::report::{Quotas, Report, Strength};
use crate::session::{Session, owner, paths};
#[cfg(test)]
pub(crate) use guard::last_word;
pub use inside::run_inside_box;
pub use rehearse::Defence;

/// What the bundle takes beside the code of a call: its small files and the runtime's state.
const BUNDLE_BYTES: u64 = 24 << 20;

/// Why some have no way out.
const NO_WAY_OUT: &str = "its runtime keeps its boxes in a network of its own making, which no door can be made in; take crun or runc, or tier t1";

/// Makes boxes by an OCI runtime. It exists only where the probe passed.
#[derive(Debug)]
pub struct OciEngine {
    /// Tier T1's knowledge of this host; it makes no boxes here.
    host: Engine,
    config: OciConfig,
    kind: RuntimeKind,
    report: Report,
    /// Left out on purpose, to see that the probe notices; never for a box of a call.
    missing: Option<Defence>,
}

impl OciEngine {
    /// Probes the runtime on this host and gives an engine if every check passes.
    ///
    /// # Errors
    /// [`Error::TierUnavailable`] with all reasons; [`Error::QuotaTooWeak`] when hard quotas are demanded and one is not.
    pub fn start(config: &OciConfig) -> Result<OciEngine> {
        let unavailable = |reasons| Error::TierUnavailable { tier: Tier::T2, reasons };
        let mut engine = OciEngine::prepare(config).map_err(|reason| unavailable(vec![reason]))?;
        engine.report = probe::probe(&engine);
        if !engine.report.available {
            return Err(unavailable(engine.report.reasons));
        }
        let weakest = engine.report.quotas.weakest_bound();
        if let Some((quota, strength)) = weakest.filter(|_| config.boxes.require_hard_quotas) {
            return Err(Error::QuotaTooWeak { quota, strength: strength.name() });
        }
        Ok(engine)
    }

    /// Probes the runtime and tells everything that was found, also where no engine could start.
    pub fn probe(config: &OciConfig) -> Report {
        match OciEngine::prepare(config) {
            Ok(engine) => probe::probe(&engine),
            Err(reason) => Report::unavailable(Tier::T2, vec![reason], Vec::new(), 0),
        }
    }

    /// Probes the runtime with one defence left out, which the report must tell. Nothing is offered by it.
    pub fn rehearse(config: &OciConfig, missing: Defence) -> Report {
        match OciEngine::prepare(config) {
            Ok(engine) => probe::probe(&OciEngine { missing: Some(missing), ..engine }),
            Err(reason) => Report::unavailable(Tier::T2, vec![reason], Vec::new(), 0),
        }
    }

    /// What the probe found when this engine started.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The interpreters its boxes can use.
    pub fn interpreters(&self) -> &[Interpreter] {
        self.host.interpreters()
    }

    /// The same engine, whose boxes show this image where their session has none of its own.
    #[must_use]
    pub fn dressed(&self, image: Image) -> OciEngine {
        let (config, report) = (self.config.clone(), self.report.clone());
        OciEngine { host: self.host.dressed(image, Vec::new()), config, kind: self.kind, report, missing: None }
    }

    fn prepare(config: &OciConfig) -> std::result::Result<OciEngine, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("OCI runtimes are started as root only, which gives each session user ids of its own: run the runner as root".into());
        }
        if !owner::has_ranges() {
            // The root of a container takes the id above that of its session.
            return Err(
                "OCI runtimes need a range of user ids for each session, which root has here for single ids only".into()
            );
        }
        check_program(&config.runtime, "the OCI runtime")?;
        check_program(&config.inside.program, "the program for the first process of a box")?;
        let text = config.flags.iter().chain(&config.inside.arguments);
        if text.into_iter().any(|one| one.contains('\0')) {
            return Err("an option of the OCI runtime holds a NUL byte".into());
        }
        if let Some(flag) = config.flags.iter().find(|flag| !flag.starts_with('-') || *flag == "--") {
            return Err(format!("{flag:?} is no option of an OCI runtime: write each in one piece, like `--platform=kvm`"));
        }
        let place = guard::PLACE.to_string_lossy();
        owner::private_folder(Path::new(&*place)).map_err(|e| format!("{place} cannot be used for bundles: {e}"))?;
        warm(&config.runtime).map_err(|e| format!("the OCI runtime cannot be read: {e}"))?;
        let kind = config.kind.unwrap_or_else(|| RuntimeKind::of(&config.runtime));
        let report = Report::unavailable(Tier::T2, vec!["not probed".into()], Vec::new(), 0);
        Ok(OciEngine { host: Engine::prepare(&config.boxes)?, config: config.clone(), kind, report, missing: None })
    }

    /// Runs something in a fresh box over the session's workspace; returns when every process of the box and of the runtime
    /// is gone.
    ///
    /// # Errors
    /// As [`Engine::run`], and [`Error::RuntimeFailed`].
    pub fn run(&self, session: &Session, mut exec: Exec) -> Result<ExecOutcome> {
        let begun = Instant::now();
        admit(session, &exec)?;
        if exec.profile != Profile::Code {
            return Err(Error::ExecRefused { reason: "the profile of browsers is one of tier t1: run it there".into() });
        }
        if exec.way_out_in(session).is_some() && !self.can_have_way_out() {
            return Err(Error::EgressUnavailable { tier: Tier::T2, reason: NO_WAY_OUT });
        }
        let on_output = exec.on_output.take();
        let cwd = paths::checked(&exec.cwd)?;
        let name = exec.argv.first().map_or("", String::as_str);
        let env = self.host.environment(session, &exec).into_iter().map(|(name, value)| format!("{name}={value}"));
        let job = job::Job {
            candidates: self.host.candidates(name),
            argv: exec.argv.clone(),
            env: env.collect(),
            cwd: if cwd.is_empty() { WORKSPACE_DIR.to_owned() } else { format!("{WORKSPACE_DIR}/{cwd}") },
            probe: None,
        };
        let running = self.begin(session, &exec, &job)?;
        let watch_memory = self.report.quotas.memory != Strength::Hard;
        Call::new(session, &exec, running, begun, on_output, watch_memory).attend(name).map(|(outcome, _)| outcome)
    }

    /// Starts the guard, and with it the runtime.
    fn begin(&self, session: &Session, exec: &Exec, job: &job::Job) -> Result<Running> {
        // Never the host's /dev/null: runtimes give the standard streams to the user of the box.
        let wires = Wires::new(Some(exec.stdin.as_deref().unwrap_or(&[])))?;
        let (run, stop) = self.programs();
        let mut view = self.host.plan(session, &exec.files, "", &exec.limits, run)?;
        view.way_out = exec.way_out_in(session);
        let mut plan = self.plan(view, session.host_ids(), job)?;
        plan.stop = Some(stop);
        wires.plug_into(&mut plan);
        launch_guard(&mut plan, wires, &self.host.groups, &self.around(&exec.limits), guard::init)
    }

    /// The plan of a T1 box turned into one for the guard.
    fn plan(&self, view: Plan, host_ids: (u32, u32), job: &job::Job) -> Result<Plan> {
        let text =
            |error: serde_json::Error| Error::ExecRefused { reason: format!("it cannot be written as JSON ({error})") };
        let job = serde_json::to_vec(job).map_err(text)?;
        let room = CELL_BYTES_MAX as u64 + BUNDLE_BYTES;
        let has_way_out = view.way_out.is_some();
        let facts = bundle::Facts { host_ids, inside: &self.config.inside, rlimits: &view.rlimits, job };
        let bundle::Bundle { mut trees, mut steps, mut spec } = bundle::bundle(view.trees, view.steps, facts);
        if has_way_out {
            // It stays in the guard's, which is empty but for the door.
            spec.linux.namespaces.retain(|one| one.kind != "network");
        }
        if let Some(missing) = self.missing {
            missing.leave_out(&mut spec);
        }
        steps.push(Step::File(c_string("config.json"), serde_json::to_vec(&spec).map_err(text)?));
        trees =
            trees.into_iter().map(|tree| if tree.fd < 0 { clone_tree(tree) } else { Ok(tree) }).collect::<Result<_>>()?;
        if trees.iter().any(|tree| tree.fd < 0) {
            return Err(launch::setup(crate::engine::plan::Stage::HostFolder, libc::EPERM));
        }
        Ok(Plan {
            trees,
            steps,
            root_options: tmpfs_options(room, "0755"),
            filters: Vec::new(),
            rlimits: Vec::new(),
            ..view
        })
    }

    /// The command lines that start the box and that ask it to end.
    fn programs(&self) -> (Program, Program) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("errand-{}-{number}", std::process::id());
        let place = guard::PLACE.to_string_lossy();
        let program = |command: &[&str]| {
            let argv = command_line(&self.config, self.kind, command).into_iter().map(c_string).collect();
            let env = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"].map(c_string).into();
            Program::exec(vec![c_string(&self.config.runtime)], argv, env)
        };
        (program(&["run", "--bundle", &place, &id]), program(&["kill", &id, "TERM"]))
    }

    /// The limits of the groups that hold the runtime beside the box.
    fn around(&self, limits: &Limits) -> Limits {
        let (bytes, processes) = self.overhead();
        Limits { memory_bytes: limits.memory_bytes + bytes, processes: limits.processes + processes, ..limits.clone() }
    }

    /// Whether its boxes can be in a network that was made for them: gVisor's have one of its own, and of others nobody knows.
    fn can_have_way_out(&self) -> bool {
        matches!(self.kind, RuntimeKind::Crun | RuntimeKind::Runc)
    }

    /// What a runtime takes beside the box: memory, and processes with threads.
    fn overhead(&self) -> (u64, u64) {
        match self.kind {
            RuntimeKind::Crun => (32 << 20, 16),
            RuntimeKind::Runc => (64 << 20, 64),
            RuntimeKind::Runsc | RuntimeKind::Other => (192 << 20, 256),
        }
    }

    /// How this host bounds each quota before the probe had its say.
    fn quotas(&self, shared_kernel: bool) -> Quotas {
        let quotas = self.host.quotas();
        let groups = &self.host.groups;
        if shared_kernel {
            return quotas;
        }
        // A kernel of the box's own counts neither memory nor processes for the host's limits of each process.
        let only_if = |has, strength| if has { strength } else { Strength::Absent };
        Quotas {
            memory: only_if(groups.has_memory(), Strength::Hard),
            processes: only_if(groups.has_pids(), Strength::Soft),
            ..quotas
        }
    }
}

impl Isolation for OciEngine {
    fn report(&self) -> &Report {
        &self.report
    }

    fn run(&self, session: &Session, exec: Exec) -> Result<ExecOutcome> {
        OciEngine::run(self, session, exec)
    }
}

/// A runtime's command with the options before it. The user's come first, so that what isolation needs has the last word.
fn command_line(config: &OciConfig, kind: RuntimeKind, command: &[&str]) -> Vec<String> {
    let own: &[&str] = match kind {
        RuntimeKind::Crun => &["--cgroup-manager=disabled"],
        // It keeps `runc` from insisting on control groups of its own: the box is in some already.
        RuntimeKind::Runc => &["--rootless=true"],
        RuntimeKind::Runsc => &["--ignore-cgroups", "--network=none"],
        RuntimeKind::Other => &[],
    };
    let state = format!("{}/state", guard::PLACE.to_string_lossy());
    let mut argv = vec![config.runtime.to_string_lossy().into_owned()];
    argv.extend(config.flags.iter().cloned());
    argv.extend(["--root", &state].iter().chain(own).chain(command).map(|one| (*one).to_owned()));
    argv
}

/// Reads a program into the page cache. Pages count for the group that reads them first: a box near its quota of memory would
/// read those of its own runtime again and again instead of being ended.
fn warm(program: &Path) -> std::io::Result<u64> {
    std::io::copy(&mut std::fs::File::open(program)?, &mut std::io::sink())
}

fn check_program(path: &Path, what: &str) -> std::result::Result<(), String> {
    let place = path.display();
    if !path.is_absolute() {
        return Err(format!("{what} is {place:?}: give an absolute path"));
    }
    let meta = std::fs::metadata(path).map_err(|e| format!("{what} {place:?} cannot be examined: {e}"))?;
    if meta.is_file() && meta.permissions().mode() & 0o111 != 0 {
        return Ok(());
    }
    Err(format!("{what} {place:?} is no executable file"))
}
