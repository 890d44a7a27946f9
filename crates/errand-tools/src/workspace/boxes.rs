//! The tiers that make boxes, started when the first box is needed: probing the host takes a moment, and tools that need no
//! box must work where none can be made.

use super::wardrobe::{Bare, Dressed, Look, OnImage, Patience, Wardrobe};
use super::{Error, Room};
use errand_sandbox::{
    Engine, EngineConfig, Images, Interpreter, Isolation, Language, Limits, OciConfig, OciEngine, Pool, PoolConfig, Report,
    Sessions, Tier, Tiers,
};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Kernels that wait for work: most of the calls.
const WARM: [Language; 2] = [Language::Python, Language::Shell];

/// How code is kept in boxes on this machine.
#[derive(Debug, Clone)]
pub struct BoxSettings {
    /// What boxes of tier T1 see.
    pub engine: EngineConfig,
    /// The runtime of tier T2, if one is configured.
    pub runtime: Option<OciConfig>,
    /// How workers of tier T0 are started, where this program can be one.
    #[cfg(feature = "t0")]
    pub scripts: Option<errand_sandbox::t0::ScriptConfig>,
    /// The weakest tier that code may run in. T0 is only ever used where this is T0 and there is no T1.
    pub min_tier: Tier,
    /// Refuse boxes whose memory, processes or processor time are not bounded hard.
    pub hard_quotas: bool,
    /// A kernel that nobody has used for so long is ended.
    pub idle: Duration,
    /// So many kernels of Python and of the shell are kept ready; 0 keeps none.
    pub warm: usize,
    /// Where images lie. Without, nothing that needs one can run.
    pub images: Option<Arc<Images>>,
    /// The image that the code of runs sees; it is made when it is first needed.
    pub image: Option<String>,
    /// Told of each step of an image that is made; if nobody is, it is logged.
    pub on_image: OnImage,
    /// How many runs may have their workspaces here at a time.
    pub room: Room,
}

impl Default for BoxSettings {
    fn default() -> Self {
        Self {
            engine: EngineConfig::default(),
            runtime: None,
            #[cfg(feature = "t0")]
            scripts: None,
            min_tier: Tier::T1,
            hard_quotas: false,
            idle: Duration::from_secs(300),
            warm: 0,
            images: None,
            image: None,
            on_image: OnImage::default(),
            room: Room::default(),
        }
    }
}

impl From<EngineConfig> for BoxSettings {
    fn from(engine: EngineConfig) -> Self {
        Self { engine, ..Self::default() }
    }
}

/// Makes boxes, or says why it cannot.
pub(super) struct Boxes {
    pub(super) settings: BoxSettings,
    sessions: Arc<Sessions>,
    ready: OnceLock<Ready>,
    wardrobe: Wardrobe,
}

/// The tiers of this host.
pub(crate) struct Ready {
    tiers: Tiers,
    namespaces: Option<Arc<Engine>>,
    runtime: Option<Arc<OciEngine>>,
    pool: Option<Arc<Pool>>,
}

/// A tier that was chosen for a call.
pub(crate) enum Chosen {
    /// T1: programs, and kernels that stay.
    Namespaces(Arc<Engine>),
    /// T2 and T0: each call has a box of its own.
    Each(Arc<dyn Isolation>),
}

impl Chosen {
    /// What runs programs there.
    pub(crate) fn isolation(&self) -> &dyn Isolation {
        match self {
            Chosen::Namespaces(engine) => &**engine,
            Chosen::Each(tier) => &**tier,
        }
    }
}

impl Boxes {
    pub(super) fn new(settings: BoxSettings, sessions: Arc<Sessions>) -> Self {
        let wardrobe = Wardrobe::new(settings.images.clone(), settings.on_image.clone());
        Self { settings, sessions, ready: OnceLock::new(), wardrobe }
    }

    /// Blocks while the host is probed, the first time.
    pub(super) fn ready(&self) -> &Ready {
        self.ready.get_or_init(|| Ready::start(&self.settings, &self.sessions))
    }

    /// The tier for a call that is to run in `least` or a stronger one.
    pub(super) fn choose(&self, least: Tier, is_script: bool) -> Result<Chosen, Error> {
        let ready = self.ready();
        let least = least.max(self.settings.min_tier);
        let hard = self.settings.hard_quotas;
        let chosen = match ready.tiers.at_least(least.max(Tier::T1), hard) {
            // Only what was allowed on purpose, and only for what it can run.
            Err(_) if least == Tier::T0 && is_script => ready.tiers.at_least(Tier::T0, hard),
            other => other,
        };
        let chosen = chosen.map_err(unavailable)?;
        match (&ready.namespaces, chosen.report().tier) {
            (Some(engine), Tier::T1) => Ok(Chosen::Namespaces(Arc::clone(engine))),
            _ => Ok(Chosen::Each(Arc::clone(chosen))),
        }
    }

    /// The same tier with an image; waits until that is made. Tier T0 has no packages at all.
    pub(super) fn dress(&self, chosen: Chosen, look: Look<'_>, patience: Patience<'_>) -> Result<Chosen, Error> {
        let tier = chosen.isolation().report().tier;
        if tier == Tier::T0 {
            return Ok(chosen);
        }
        let dressed = self.wardrobe.dressed(look, &self.ready().bare(), patience, |engine| self.pool_of(engine, look))?;
        Ok(match (tier, &dressed.namespaces, &dressed.runtime) {
            (Tier::T1, Some(engine), _) => Chosen::Namespaces(Arc::clone(engine)),
            (Tier::T2, _, Some(runtime)) => Chosen::Each(Arc::clone(runtime)),
            _ => chosen,
        })
    }

    /// Has the image of runs made, if they have one.
    pub(super) fn ensure_image(&self, patience: Patience<'_>) -> Result<(), Error> {
        let Some(look) = self.image() else { return Ok(()) };
        self.wardrobe.dressed(look, &self.ready().bare(), patience, |engine| self.pool_of(engine, look)).map(drop)
    }

    /// What the code of runs sees.
    pub(super) fn image(&self) -> Option<Look<'_>> {
        self.settings.image.as_deref().map(|name| Look { name, packages: &[] })
    }

    /// Kernels of an engine, made ahead where its image is that of runs.
    fn pool_of(&self, engine: &Arc<Engine>, look: Look<'_>) -> Option<Arc<Pool>> {
        let is_of_runs = self.settings.image.as_deref() == Some(look.name);
        is_of_runs.then(|| pool(engine, &self.sessions, self.settings.warm)).flatten()
    }

    /// Kernels that are ready, where they are of the tier that calls get.
    pub(super) fn pool(&self, least: Tier) -> Option<Arc<Pool>> {
        if self.settings.warm == 0 || !matches!(self.choose(least, false), Ok(Chosen::Namespaces(_))) {
            return None;
        }
        let Some(look) = self.image() else { return self.ready().pool.clone() };
        self.wardrobe
            .dressed_now(look, &self.ready().bare(), |engine| self.pool_of(engine, look))
            .and_then(|dressed: Arc<Dressed>| dressed.pool.clone())
    }
}

impl Ready {
    fn start(settings: &BoxSettings, sessions: &Arc<Sessions>) -> Ready {
        let mut ready = Ready { tiers: Tiers::default(), namespaces: None, runtime: None, pool: None };
        match Engine::start(&settings.engine) {
            Ok(engine) => {
                let engine = Arc::new(engine);
                ready.take(Ok(engine.clone()));
                ready.namespaces = Some(engine);
            }
            Err(error) => ready.take(Err(refused(Tier::T1, error))),
        }
        if let Some(config) = &settings.runtime {
            match OciEngine::start(config) {
                Ok(engine) => {
                    let engine = Arc::new(engine);
                    ready.take(Ok(engine.clone()));
                    ready.runtime = Some(engine);
                }
                Err(error) => ready.take(Err(refused(Tier::T2, error))),
            }
        }
        #[cfg(feature = "t0")]
        if let Some(config) = settings.scripts.clone().filter(|_| settings.min_tier == Tier::T0) {
            match errand_sandbox::t0::ScriptEngine::start(config) {
                Ok(engine) => ready.take(Ok(Arc::new(engine))),
                Err(error) => ready.take(Err(refused(Tier::T0, error))),
            }
        }
        // With an image kernels are made ahead once that is there.
        if let Some(engine) = ready.namespaces.as_ref().filter(|_| settings.image.is_none()) {
            ready.pool = pool(engine, sessions, settings.warm);
        }
        ready
    }

    fn bare(&self) -> Bare<'_> {
        Bare { namespaces: self.namespaces.as_ref(), runtime: self.runtime.as_ref() }
    }

    fn take(&mut self, started: Result<Arc<dyn Isolation>, Report>) {
        self.tiers = std::mem::take(&mut self.tiers).with(started);
    }

    /// The interpreters that boxes of a tier can use.
    pub(super) fn interpreters(&self, tier: Tier) -> &[Interpreter] {
        match (tier, &self.namespaces, &self.runtime) {
            (Tier::T1, Some(engine), _) => engine.interpreters(),
            (Tier::T2, _, Some(engine)) => engine.interpreters(),
            _ => &[],
        }
    }
}

/// Kernels of an engine made ahead, if any are wanted.
fn pool(engine: &Arc<Engine>, sessions: &Arc<Sessions>, warm: usize) -> Option<Arc<Pool>> {
    let config = PoolConfig { languages: WARM.into(), parked: warm..=4 * warm, limits: limits() };
    let started = (warm > 0).then(|| Pool::start(Arc::clone(engine), Arc::clone(sessions), config))?;
    started.map(Arc::new).inspect_err(|error| tracing::warn!(%error, "no kernels are made ahead")).ok()
}

/// What a kernel may use: as much time as the longest call, for each cell says how long it may take.
pub(super) fn limits() -> Limits {
    Limits { wall: Duration::from_secs(15 * 60), ..Limits::default() }
}

/// The report of a tier that did not start.
fn refused(tier: Tier, error: errand_sandbox::Error) -> Report {
    let reasons = match error {
        errand_sandbox::Error::TierUnavailable { reasons, .. } => reasons,
        other => vec![Error::Sandbox(other).chain()],
    };
    Report::refused(tier, reasons)
}

fn unavailable(error: errand_sandbox::Error) -> Error {
    match error {
        errand_sandbox::Error::TierUnavailable { tier: Tier::T0 | Tier::T1, reasons } => {
            Error::BoxUnavailable { reasons: reasons.join("; ") }
        }
        other => Error::Sandbox(other),
    }
}
