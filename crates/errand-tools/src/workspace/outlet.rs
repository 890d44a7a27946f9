//! The ways out of one run's boxes, and how much of them was used.

use super::{Error, WayWanted};
use crate::ways;
use errand_core::{EgressGrant, EgressUse, RunId};
use errand_egress::{Egress, Usage};
use errand_sandbox::WayOut;
use std::sync::Arc;

/// A way out while it is open.
#[derive(Debug)]
pub(super) struct Outlet {
    grant: EgressGrant,
    egress: Arc<Egress>,
    /// Bytes that were used before it was opened.
    before: u64,
    /// What calls were told of already.
    told: Usage,
}

impl Outlet {
    /// Opens what is wanted.
    pub(super) fn open(run: RunId, wanted: &WayWanted) -> Result<Outlet, Error> {
        let WayWanted { ways, grant, used } = wanted;
        let ways = ways.as_ref().ok_or(Error::NoWays)?;
        let egress = ways.open(run, grant, *used).map_err(|error| Error::Way(Box::new(error)))?;
        Ok(Outlet { grant: grant.clone(), egress, before: *used, told: Usage::default() })
    }

    pub(super) fn is_of(&self, grant: &EgressGrant) -> bool {
        self.grant == *grant
    }

    /// Bytes that passed here.
    pub(super) fn passed(&self) -> u64 {
        let usage = self.egress.usage();
        usage.bytes_up.saturating_add(usage.bytes_down)
    }

    /// Whether nothing was used that it does not know of, where `passed` bytes passed on this machine.
    pub(super) fn knows(&self, used: u64, passed: u64) -> bool {
        used <= self.before.saturating_add(passed)
    }

    pub(super) fn way_out(&self) -> Arc<dyn WayOut> {
        Arc::clone(&self.egress) as Arc<dyn WayOut>
    }

    /// What passed since [`Outlet::used`] was last asked.
    pub(super) fn unsettled(&self) -> EgressUse {
        ways::used(&self.egress.usage().since(&self.told))
    }

    /// The same, for the last time.
    pub(super) fn used(&mut self) -> EgressUse {
        let now = self.egress.usage();
        let used = ways::used(&now.since(&self.told));
        self.told = now;
        used
    }
}
