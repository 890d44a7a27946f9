//! draft
mod arguments;
mod calculate;
mod manifest;
mod registry;
pub use registry::Registry;
