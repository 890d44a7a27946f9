//! The way out of boxes, which stands outside of them, and the rules of where any guarded connection may go.
//!
//! Reading order:
//! - [`Reach`] (with [`AllowList`], [`Lookup`]): which addresses may be connected to. Public ones, and exceptions that whoever
//!   runs this made. The tools of an agent use it as well.

mod address;
mod allow;
mod reach;

pub use allow::{AllowError, AllowList};
pub use reach::{Lookup, Reach, System, Unreachable};
