//! Keeps a zygote at hand: starts it, rebuilds it by age, number of children and change of its interpreter, and does without
//! where the host has none.

use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::nest::Nest;
use super::plan::Program;
use super::zygote::Zygote;
use super::{Engine, probe};
use crate::error::{Error, Result, Tier};
use crate::limits::Limits;

/// After so long a zygote is replaced.
const AGE_MAX: Duration = Duration::from_secs(3_600);
/// After so many children a zygote is replaced: they share what was drawn once when it started, the seed of hashes and the
/// layout of the address space.
const CHILDREN_MAX: u32 = 64;
/// How long nothing is started after it failed.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// A nest with a zygote of Python.
#[derive(Debug)]
pub(crate) struct Nursery {
    engine: Arc<Engine>,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    zygote: Option<(Arc<Zygote>, Image)>,
    retry: Option<Instant>,
    failure: Option<String>,
}

/// What tells one version of an interpreter from the next: device, inode, time of change.
type Image = Option<(u64, u64, i64)>;

impl Nursery {
    pub(crate) fn new(engine: Arc<Engine>, limits: Limits) -> Nursery {
        Nursery { engine, limits, state: Mutex::default() }
    }

    /// A zygote that is ready and fresh enough, if there is one.
    pub(crate) fn ready(&self) -> Option<Arc<Zygote>> {
        let state = self.lock();
        let (zygote, image) = state.zygote.as_ref()?;
        self.is_fresh(zygote, *image).then(|| Arc::clone(zygote))
    }

    /// True where there is none and one may be started.
    pub(crate) fn is_due(&self) -> bool {
        self.ready().is_none() && self.lock().retry.is_none_or(|at| Instant::now() >= at)
    }

    /// The same; starts one where there is none. Not for those who wait: use [`Nursery::ready`].
    pub(crate) fn zygote(&self) -> Option<Arc<Zygote>> {
        let ready = self.ready();
        if ready.is_some() || self.lock().retry.is_some_and(|at| Instant::now() < at) {
            return ready;
        }
        let image = self.image();
        let started = self.start();
        let mut state = self.lock();
        match started {
            Ok(zygote) => {
                let zygote = Arc::new(zygote);
                state.failure = None;
                state.zygote = Some((Arc::clone(&zygote), image));
                Some(zygote)
            }
            Err(error) => {
                state.zygote = None;
                state.retry = Some(Instant::now() + AFTER_FAILURE);
                state.failure = Some(error.to_string());
                None
            }
        }
    }

    /// Why there is none, if starting it failed.
    pub(crate) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    fn start(&self) -> Result<Zygote> {
        let absent = || Error::io("starting a thread", "sandbox-shells", std::io::Error::other("no thread for boxes"));
        let nest = self.engine.shells().ok_or_else(absent)?.nest()?;
        Zygote::start(&self.engine, &nest, &self.limits, &self.engine.preload)
    }

    fn is_fresh(&self, zygote: &Zygote, image: Image) -> bool {
        zygote.is_alive() && zygote.children() < CHILDREN_MAX && zygote.since().elapsed() < AGE_MAX && self.image() == image
    }

    fn image(&self) -> Image {
        let python = self.engine.interpreters.iter().find(|one| one.name == "python3")?;
        let file = std::fs::metadata(&python.path).ok()?;
        Some((file.dev(), file.ino(), file.mtime()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // No code that holds the lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A nest whose boxes pass the probe whole.
///
/// # Errors
/// [`Error::TierUnavailable`] with what failed; then boxes are made without a nest, which have passed it too.
pub(crate) fn tight_nest(engine: &Engine) -> Result<Arc<Nest>> {
    let place = probe::Place::new()?;
    let nest = Arc::new(Nest::start(engine, Program::Probe(place.baits()?))?);
    let report = probe::probe_nest(engine, &nest, &place);
    let same_quotas = engine.report.quotas == report.quotas;
    if report.available && same_quotas {
        return Ok(nest);
    }
    Err(Error::TierUnavailable { tier: Tier::T1, reasons: report.reasons })
}
