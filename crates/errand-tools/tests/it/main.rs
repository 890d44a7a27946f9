//! Tools on real workspaces and, where this host can make them, in real boxes.

mod arguments;
mod charts;
mod code;
mod exported;
mod files;
mod imported;
mod support;
mod turns;
