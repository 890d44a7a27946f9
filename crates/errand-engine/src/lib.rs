//! The ports and the one driver of the step protocol.
//!
//! Reading order: [`ports`] (what the engine asks of the world), [`Driver`] (one message in, one disposition out; and what
//! comes from outside: create, decide, answer, message, cancel, fork), [`worker`] (the loop of processes that stay).
//! Lambda, laptop and simulator differ only in the adapters they give to the driver.
//!
//! Absent on purpose: any runtime, socket, file or clock; what a run is (`errand-core`). Tests: `errand-sim` runs this
//! driver in a seeded world; `tests/it` runs it on the real adapters.

mod bugs;
pub mod bundle;
mod driver;
mod error;
pub mod fleet;
pub mod ports;
pub mod worker;

pub use bugs::{Bug, Bugs};
pub use driver::{Adapters, Cancellation, Disposition, Driver, ForkOptions, Settings};
pub use error::Error;
