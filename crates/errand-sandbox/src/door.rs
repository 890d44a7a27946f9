//! The door of a box: what leads out of its empty network, if anything does.
//!
//! A box has a network of its own with nothing in it but its loopback. Where its session has a [`WayOut`], its init makes one
//! listening socket there before any code starts and hands it out: what the code connects to arrives outside, at somebody who
//! decides. No process of the box has a part in it, no path leads there, and whose connection it is need not be asked, for
//! nobody but this box reaches its loopback.

use std::any::Any;
use std::fmt::Debug;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};

/// Where the door is, on the loopback of each box that has one.
pub const DOOR: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3128));

/// Connections that may wait at the door.
#[cfg(target_os = "linux")]
pub(crate) const WAITING_MAX: i32 = 128;

/// Whoever attends to a door. Dropping it closes the door and ends every connection made through it.
pub type OpenDoor = Box<dyn Any + Send + Sync>;

/// A way out of the boxes of a session.
pub trait WayOut: Debug + Send + Sync {
    /// Variables that tell the programs in a box of the door at this address.
    fn environment(&self, door: SocketAddr) -> Vec<(String, String)>;

    /// Begins to attend to the door of a box. Must not wait.
    ///
    /// # Errors
    /// When it cannot; the box is then not started.
    fn open(&self, listener: TcpListener) -> std::io::Result<OpenDoor>;
}
