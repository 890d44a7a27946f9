//! The engine that makes boxes, started when the first box is needed: probing the host takes a moment, and tools that
//! need no box must work where none can be made.

use super::Error;
use errand_sandbox::{Engine, EngineConfig};
use std::sync::OnceLock;

/// Makes boxes, or says why it cannot.
pub(super) struct Boxes {
    config: EngineConfig,
    engine: OnceLock<Result<Engine, String>>,
}

impl Boxes {
    pub(super) fn new(config: EngineConfig) -> Self {
        Self { config, engine: OnceLock::new() }
    }

    /// Blocks while the host is probed, the first time.
    pub(super) fn engine(&self) -> Result<&Engine, Error> {
        let start = || match Engine::start(&self.config) {
            Ok(engine) => Ok(engine),
            Err(errand_sandbox::Error::TierUnavailable { reasons, .. }) => Err(reasons.join("; ")),
            Err(error) => Err(Error::Sandbox(error).chain()),
        };
        self.engine.get_or_init(start).as_ref().map_err(|reasons| Error::BoxUnavailable { reasons: reasons.clone() })
    }
}
