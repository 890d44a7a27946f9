//! What programs see of runs, and the routes on which they ask for them.
//!
//! Reading order: [`events`] (records → numbered public events).
//!
//! Absent on purpose: adapters, settings, the command line.

pub mod events;
pub mod text;
