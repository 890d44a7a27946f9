//! Placeholder map, written with the crate.
