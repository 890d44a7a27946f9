//! How times and amounts read.

use errand_core::{Timestamp, Usd};

/// `2026-11-21T10:00:00.000Z`.
pub fn time(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    // Beyond the year 9999 no calendar helps anybody.
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| at.to_string(), |time| format!("{time:.3}"))
}

/// One spending, for events.
pub fn dollars(usd: Usd) -> f64 {
    usd.nanos() as f64 / 1e9
}
