//! What the engine asks of the world. One trait per kind of adapter; adapters know these and never each other.
mod models;

pub use models::{Delta, DeltaSink, ModelFacts, Models};
