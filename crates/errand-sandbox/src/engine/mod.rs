//! The T1 engine: boxes of Linux namespaces.
//!
//! `view` says what a box sees, `plan` holds everything its child needs, `launch` clones it, `child` is the code inside
//! up to exec, `run` attends to a call, `probe` tries to break out before any box is offered.

pub(crate) mod cgroup;
pub(crate) mod child;
mod idle;
pub(crate) mod interpreters;
mod kernels;
pub(crate) mod launch;
pub(crate) mod nest;
mod nursery;
pub(crate) mod plan;
pub(crate) mod probe;
mod rehearse;
mod resident;
pub(crate) mod run;
pub(crate) mod seccomp;
mod shells;
mod sink;
mod spawner;
pub(crate) mod sys;
pub(crate) mod syscalls;
mod turn;
mod verify;
pub(crate) mod view;
pub(crate) mod volume;
pub(crate) mod watch;
pub(crate) mod zygote;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use seccompiler::BpfProgram;

use crate::config::{EngineConfig, Interpreter};
use crate::error::{Error, Result, Tier};
use crate::exec::{Exec, ExecOutcome, Profile};
use crate::image::Image;
use crate::isolation::Isolation;
use crate::limits::Limits;
use crate::report::{Quotas, Report, Strength};
use crate::session::Session;
pub use kernels::Kernel;
use nest::Shell;
pub(crate) use nursery::Nursery;
pub use rehearse::{Wall, probe_here, probe_zygotes, refuse_user_namespaces_on_this_thread, rehearse_without};
pub use resident::Resident;
use shells::Shells;
pub(crate) use spawner::Spawner;
pub(crate) use zygote::Zygote;

/// Makes boxes. It exists only where the probe passed.
#[derive(Debug)]
pub struct Engine {
    view: view::View,
    filters: Vec<BpfProgram>,
    /// Those of the profile `browser`, once it has been probed, or why it is not offered.
    browser: OnceLock<std::result::Result<Vec<BpfProgram>, Vec<String>>>,
    pub(crate) groups: cgroup::Hosts,
    interpreters: Vec<Interpreter>,
    preload: Vec<String>,
    /// What all its boxes show beside the host's system, unless their session has an image of its own.
    image: Option<Image>,
    report: Report,
    spawner: OnceLock<Arc<Spawner>>,
    /// Boxes made ahead: none before a call that is not the first.
    shells: OnceLock<Option<Shells>>,
    calls: AtomicUsize,
}

impl Engine {
    /// Probes this host and gives an engine if every check passes.
    ///
    /// # Errors
    /// [`Error::TierUnavailable`] with all reasons; [`Error::QuotaTooWeak`] when hard quotas are demanded and one is not.
    pub fn start(config: &EngineConfig) -> Result<Engine> {
        let engine = Engine::prepare(config);
        let engine = match engine {
            Ok(mut engine) => {
                engine.report = probe::probe(&engine);
                engine
            }
            Err(reason) => return Err(Error::TierUnavailable { tier: Tier::T1, reasons: vec![reason] }),
        };
        if !engine.report.available {
            return Err(Error::TierUnavailable { tier: Tier::T1, reasons: engine.report.reasons });
        }
        let weakest = engine.report.quotas.weakest_bound();
        if let Some((quota, strength)) = weakest.filter(|_| config.require_hard_quotas) {
            return Err(Error::QuotaTooWeak { quota, strength: strength.name() });
        }
        Ok(engine)
    }

    /// Probes this host and tells everything that was found, also where no engine could start.
    pub fn probe(config: &EngineConfig) -> Report {
        match Engine::prepare(config) {
            Ok(engine) => probe::probe(&engine),
            Err(reason) => Report::unavailable(Tier::T1, vec![reason], Vec::new(), 0),
        }
    }

    /// What the probe found when this engine started.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The interpreters its boxes can use.
    pub fn interpreters(&self) -> &[Interpreter] {
        &self.interpreters
    }

    /// An engine that has not been probed: for the probe alone.
    pub(crate) fn prepare(config: &EngineConfig) -> std::result::Result<Engine, String> {
        let filters = seccomp::filters(Profile::Code).map_err(|e| format!("the system-call filter cannot be built: {e}"))?;
        let interpreters = interpreters::find(config.search_path.as_deref());
        let mut extra = config.read_only.clone();
        extra.extend(interpreters.iter().filter_map(|one| one.prefix.clone()));
        if let Some(path) = extra.iter().find(|path| !path.is_absolute() || !path.is_dir()) {
            return Err(format!("{} is to be shown in boxes but is no folder with an absolute path", path.display()));
        }
        let report = Report::unavailable(Tier::T1, vec!["not probed".into()], Vec::new(), 0);
        Ok(Engine {
            view: view::View::of_host(&extra),
            filters,
            browser: OnceLock::new(),
            groups: cgroup::Hosts::find(),
            interpreters,
            preload: config.preload.clone(),
            image: None,
            report,
            spawner: OnceLock::new(),
            shells: OnceLock::new(),
            calls: AtomicUsize::new(0),
        })
    }

    /// The filters of a profile. That of browsers is probed when it is first asked for.
    ///
    /// # Errors
    /// [`Error::TierUnavailable`] when a check fails in a box with it.
    pub(crate) fn filters(&self, profile: Profile) -> Result<Vec<BpfProgram>> {
        if profile == Profile::Code {
            return Ok(self.filters.clone());
        }
        let probed = self.browser.get_or_init(|| {
            let filters = seccomp::filters(profile).map_err(|e| vec![e.to_string()])?;
            let report = probe::probe_browser(self, &filters);
            if report.available { Ok(filters) } else { Err(report.reasons) }
        });
        probed.clone().map_err(|reasons| Error::TierUnavailable { tier: Tier::T1, reasons })
    }

    /// What the probe finds in a box with the profile `browser`.
    pub fn probe_browser(&self) -> Report {
        match seccomp::filters(Profile::Browser) {
            Ok(filters) => probe::probe_browser(self, &filters),
            Err(reason) => Report::unavailable(Tier::T1, vec![reason.to_string()], Vec::new(), 0),
        }
    }

    /// The thread for boxes that stay, started when it is first needed.
    fn spawner(&self) -> Result<&Arc<Spawner>> {
        if let Some(spawner) = self.spawner.get() {
            return Ok(spawner);
        }
        let started = Spawner::start().map_err(|e| Error::io("starting a thread", "sandbox-spawner", e))?;
        Ok(self.spawner.get_or_init(|| Arc::new(started)))
    }

    /// A box that was made ahead. Who calls twice calls again: from then on some lie ready.
    fn shell(&self) -> Option<Shell> {
        if self.calls.fetch_add(1, Ordering::Relaxed) == 0 {
            return None;
        }
        self.shells()?.take(None)
    }

    fn shells(&self) -> Option<&Shells> {
        self.shells.get_or_init(|| Shells::start(self.twin()).ok()).as_ref()
    }

    /// A box of this nest: one that was made ahead, or else one made now.
    fn shell_of(&self, nest: &Arc<nest::Nest>, limits: &Limits) -> Result<Shell> {
        match self.shells().and_then(|shells| shells.take(Some(nest))) {
            Some(shell) => Ok(shell),
            None => nest.shell(self, limits),
        }
    }

    /// Has boxes made ahead from now on, and waits until some lie ready or the patience is over. True if so.
    pub fn is_ahead_within(&self, patience: std::time::Duration) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.shells().is_some_and(|shells| shells.is_filled_within(patience))
    }

    /// Ends what is left of a used box, later and together with others where there is a thread for it.
    fn bury(&self, group: cgroup::Group, namespaces: Vec<std::os::fd::OwnedFd>) {
        if let Some(shells) = self.shells.get().and_then(Option::as_ref) {
            shells.bury(shells::Remains { _group: group, _namespaces: namespaces });
        }
    }

    /// The same engine, whose boxes show this image where their session has none of its own. It keeps boxes of its own ready,
    /// and zygotes that can import what the image holds: those modules of `preload` that are there are imported ahead. The image
    /// is in use for as long as this lives.
    #[must_use]
    pub fn dressed(&self, image: Image, preload: Vec<String>) -> Engine {
        Engine { image: Some(image), preload, ..self.twin() }
    }

    /// The image that it shows.
    pub fn image(&self) -> Option<&Image> {
        self.image.as_ref()
    }

    /// The same engine for another thread, without what this one keeps ready.
    fn twin(&self) -> Engine {
        Engine {
            view: self.view.clone(),
            filters: self.filters.clone(),
            browser: OnceLock::new(),
            groups: self.groups.clone(),
            interpreters: self.interpreters.clone(),
            preload: self.preload.clone(),
            image: self.image.clone(),
            report: self.report.clone(),
            spawner: OnceLock::new(),
            shells: OnceLock::new(),
            calls: AtomicUsize::new(0),
        }
    }

    /// How this host bounds each quota. What this process does itself cannot be evaded and is hard; what it only looks at
    /// from time to time is soft.
    pub(crate) fn quotas(&self) -> Quotas {
        let hard_if = |hard| if hard { Strength::Hard } else { Strength::Soft };
        Quotas {
            memory: hard_if(self.groups.has_memory()),
            processes: hard_if(self.groups.has_pids() || counts_processes_per_namespace()),
            cpu: hard_if(self.groups.has_cpu()),
            workspace: Strength::Soft,
            output: Strength::Hard,
            time: Strength::Hard,
        }
    }

    /// Limits of each process, which its children inherit.
    pub(crate) fn rlimits(&self, limits: &Limits) -> Vec<(u32, u64)> {
        let mut all = vec![
            (libc::RLIMIT_CORE, 0),
            (libc::RLIMIT_NOFILE, limits.open_files),
            // Init counts as well.
            (libc::RLIMIT_NPROC, limits.processes + 1),
            (libc::RLIMIT_FSIZE, limits.workspace_bytes),
            (libc::RLIMIT_MEMLOCK, 64 << 10),
            (libc::RLIMIT_MSGQUEUE, 0),
            (libc::RLIMIT_RTPRIO, 0),
            (libc::RLIMIT_SIGPENDING, 1024),
        ];
        if !self.groups.has_memory() {
            all.push((libc::RLIMIT_DATA, limits.memory_bytes));
        }
        all
    }

    /// Where no control group bounds processor time: as many processors as are granted, taken in turn by the boxes.
    fn processors(&self, limits: &Limits) -> Vec<u64> {
        static TURN: AtomicUsize = AtomicUsize::new(0);
        if self.groups.has_cpu() {
            return Vec::new();
        }
        let Ok(mine) = rustix::thread::sched_getaffinity(None) else { return Vec::new() };
        let usable: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| mine.is_set(*cpu)).collect();
        let granted = usize::try_from(limits.cpu_milli.div_ceil(1000)).unwrap_or(usize::MAX).min(usable.len());
        let first = TURN.fetch_add(granted, Ordering::Relaxed);
        let mut mask = vec![0u64; rustix::thread::CpuSet::MAX_CPU / 64];
        for cpu in usable.iter().cycle().skip(first % usable.len().max(1)).take(granted) {
            mask[cpu / 64] |= 1 << (cpu % 64);
        }
        mask
    }

    /// Where a program may lie, in the order to try.
    pub(crate) fn candidates(&self, name: &str) -> Vec<String> {
        if name.contains('/') {
            return vec![name.to_string()];
        }
        let known = self.interpreters.iter().filter(|one| one.name == name || (one.name == "sh" && name == "bash"));
        let mut paths: Vec<String> = known.map(|one| one.path.to_string_lossy().into_owned()).collect();
        paths.extend(self.search_path().iter().map(|folder| format!("{folder}/{name}")));
        paths
    }

    fn search_path(&self) -> Vec<String> {
        let own = self.interpreters.iter().filter_map(|one| one.prefix.as_ref());
        let mut folders: Vec<String> = own.map(|prefix| format!("{}/bin", prefix.display())).collect();
        folders.extend(["/usr/local/bin", "/usr/bin", "/bin"].map(String::from));
        folders
    }
}

impl Isolation for Engine {
    fn report(&self) -> &Report {
        &self.report
    }

    fn run(&self, session: &Session, exec: Exec) -> Result<ExecOutcome> {
        Engine::run(self, session, exec)
    }
}

/// Since Linux 5.14 the limit on a user's processes counts within the user namespace, so it bounds a box exactly; before, all
/// processes of the user counted.
fn counts_processes_per_namespace() -> bool {
    let release = rustix::system::uname();
    let mut numbers = release.release().to_bytes().split(|byte| !byte.is_ascii_digit());
    let mut next = || std::str::from_utf8(numbers.next()?).ok()?.parse::<u32>().ok();
    (next(), next()) >= (Some(5), Some(14))
}
