//! The way out of boxes, which stands outside of them, and the rules of where any guarded connection may go.
//!
//! Reading order:
//! - [`Reach`] (with [`AllowList`], [`Lookup`]): which addresses may be connected to. Public ones, and exceptions that whoever
//!   runs this made. The tools of an agent use it as well.
//! - [`Grant`], [`HostGrant`], [`Pattern`]: what a session may speak to. `Grant::decide` is pure.
//! - [`Terms`]: what may be granted at most, and the part of it that somebody asks for.
//! - [`Proxy`], [`Egress`]: an HTTP proxy on threads of its own, and the way out it gives to a session
//!   ([`errand_sandbox::WayOut`]).
//! - `answer`, `tunnel`, `forward`: a request; CONNECT, by authority and by the name in the TLS handshake; a request with a whole
//!   URL, made anew.
//! - [`Secret`]: what a box uses and never sees.
//! - `budget`, `stream`, `state`: bytes counted while they stream, connections bounded, names pinned, decisions told.
//!
//! Absent on purpose: any parsing of HTTP or TLS of our own, interception of TLS (ADR 0011), any way out that no session was
//! granted.

mod address;
mod allow;
mod answer;
mod budget;
mod forward;
mod grant;
mod host;
mod proxy;
mod reach;
mod refusal;
mod secret;
mod state;
mod stream;
mod target;
mod terms;
mod tunnel;

pub use allow::{AllowError, AllowList};
pub use grant::{BYTES_DEFAULT, Grant, GrantError};
pub use host::{HostGrant, Pattern};
pub use proxy::{Egress, Proxy, ProxyConfig, Times};
pub use reach::{Lookup, Reach, System, Unreachable};
pub use secret::{Secret, SecretError};
pub use state::Usage;
pub use terms::{NotAllowed, SecretName, Terms};
