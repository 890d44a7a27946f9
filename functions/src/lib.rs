//! Errand as Lambda functions: stateless code that is handed messages, carries runs on by the same driver as everywhere else,
//! and hands back what it cannot finish in time.
//!
//! Reading order: [`Settings`] (the environment of a function), [`Cloud`] (the adapters, and a driver for each invocation),
//! [`batch`] (messages of one invocation, all at the same time, each for itself), [`Step`] and [`Sweep`] (the functions),
//! [`boot`] (what their programs have in common). `src/bin/` holds the programs.
//!
//! Absent on purpose: decisions about runs, and making tables, queues and functions, which is Terraform's. Tests are in
//! `tests/it/`: the programs themselves under a Runtime API of our own, on an emulator of AWS.

pub mod batch;
pub mod boot;
mod cloud;
mod error;
mod settings;
mod step;
mod sweep;

pub use cloud::Cloud;
pub use error::Error;
pub use settings::Settings;
pub use step::Step;
pub use sweep::{Event, Reply, Sweep};
