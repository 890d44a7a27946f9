//! Rehearsals for tests: a host that refuses user namespaces and boxes without one of their defences, to see that nothing
//! weaker is offered there; and the probe in the child of a zygote.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::plan::{Plan, Step};
use super::probe::{self, inside, resources};
use super::zygote::Zygote;
use super::{Engine, child, nursery, seccomp, sys};
use crate::config::EngineConfig;
use crate::error::{Error, Result, Tier};
use crate::kernel::{Cell, Language};
use crate::limits::Limits;
use crate::oci::job::Lure;
use crate::report::Report;
use crate::session::Sessions;

/// From now on the kernel refuses new user namespaces to the calling thread and to what it starts, as hardened hosts do.
/// It cannot be undone; use a thread made for it.
///
/// # Errors
/// When the kernel takes no filter, which is a host without boxes anyway.
pub fn refuse_user_namespaces_on_this_thread() -> std::io::Result<()> {
    let program = seccomp::no_user_namespaces().map_err(std::io::Error::other)?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
        .and_then(|()| child::install_filter(&program))
        .map_err(std::io::Error::from_raw_os_error)
}

/// Has a child of a zygote try everything that the probe tries. `program` calls [`probe_here`] with its second argument
/// where the first is `probe`, and is visible in the engine's boxes; `folder` is empty, for the session.
///
/// # Errors
/// When there is no zygote here, or its child does not come to the attempts.
pub fn probe_zygotes(engine: &Arc<Engine>, program: &Path, folder: &Path) -> Result<Report> {
    let place = probe::Place::new()?;
    let nest = nursery::tight_nest(engine)?;
    // The program does not answer as a driver would; it has this long to come to its end.
    let limits = Limits { grace: Duration::from_secs(5), ..resources::limits() };
    let zygote = Arc::new(Zygote::start(engine, &nest, &limits, &[])?);
    let session = Arc::new(Sessions::at(folder)?.create("probe")?);
    let baits = serde_json::to_vec(&Lure::from(place.baits()?)).map_err(std::io::Error::other);
    session.put_file("baits", &baits.map_err(|e| Error::io("writing the baits", "baits", e))?)?;
    let mut kernel = engine.kernel_of(&zygote, &session, true)?;
    let code = format!("import os\nos.execv({0:?}, [{0:?}, 'probe', '/workspace/baits'])", program.to_string_lossy());
    let outcome = kernel.run(Cell::new(code))?;
    if outcome.stdout.kept.is_empty() {
        let (exit, said) = (format!("{:?}", outcome.end), outcome.stderr.text());
        return Err(Error::KernelLost { language: Language::Python.name(), exit, said });
    }
    Ok(probe::report_of(engine, &outcome.stdout.kept))
}

/// A defence of tier T1's boxes that a rehearsal leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wall {
    /// The filters of system calls.
    SystemCalls,
    /// The limits of each process.
    Limits,
    /// Hiding and sealing what `/proc` tells of the kernel.
    KernelSettings,
}

/// Probes a box without one of its defences, which the report must tell. Nothing is offered by it.
pub fn rehearse_without(config: &EngineConfig, missing: Wall) -> Report {
    let mut leave_out = |plan: &mut Plan| match missing {
        Wall::SystemCalls => plan.filters.clear(),
        Wall::Limits => plan.rlimits.clear(),
        Wall::KernelSettings => plan.steps.retain(|step| !matches!(step, Step::ReadOnly(..))),
    };
    match Engine::prepare(config) {
        Ok(engine) => probe::rehearse(&engine, &mut leave_out),
        Err(reason) => Report::unavailable(Tier::T1, vec![reason], Vec::new(), 0),
    }
}

/// Makes the attempts of the probe in this process; what came of them goes to standard output.
pub fn probe_here(baits: &Path) -> ExitCode {
    let lure = std::fs::read(baits).ok().and_then(|text| serde_json::from_slice::<Lure>(&text).ok());
    match lure {
        Some(lure) => inside::run(&lure.into(), -1),
        None => ExitCode::FAILURE,
    }
}
