//! Which addresses a name leads to, and which of them may be connected to.

use crate::address::{canonical, is_metadata, not_public};
use crate::allow::AllowList;
use async_trait::async_trait;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Addresses of one name that are looked at.
const ANSWERS_MAX: usize = 64;

/// Finds the addresses of a name.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// All addresses of `host`.
    ///
    /// # Errors
    /// What the resolver says when it finds none.
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// The resolver of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

#[async_trait]
impl Lookup for System {
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Why a name leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreachable {
    /// It has no address; what the resolver said.
    NotFound(String),
    /// All of its addresses are refused: what kind they are. Never which, for that would tell what the inside of a network
    /// looks like.
    Refused(&'static str),
}

/// What may be connected to: public addresses, and the exceptions that whoever runs this made.
#[derive(Clone)]
pub struct Reach {
    allow: AllowList,
    lookup: Arc<dyn Lookup>,
}

impl std::fmt::Debug for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reach").field("allow", &self.allow).finish_non_exhaustive()
    }
}

impl Reach {
    /// By exceptions and a resolver.
    pub fn new(allow: AllowList, lookup: Arc<dyn Lookup>) -> Self {
        Self { allow, lookup }
    }

    /// The exceptions.
    pub fn allowed(&self) -> &AllowList {
        &self.allow
    }

    /// Whether an address may be connected to. `name_allowed`: a name that is an exception led there.
    ///
    /// # Errors
    /// What kind of address it is.
    pub fn address(&self, address: IpAddr, port: u16, name_allowed: bool) -> Result<(), &'static str> {
        if self.allow.written(address, port) {
            return Ok(());
        }
        if is_metadata(address) {
            return Err("it is a cloud's metadata address");
        }
        match not_public(address) {
            Some(reason) if !name_allowed && !self.allow.in_range(address) => Err(reason),
            _ => Ok(()),
        }
    }

    /// The addresses of `host` that may be connected to. Whoever connects takes these and does not ask again.
    ///
    /// # Errors
    /// [`Unreachable`].
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Unreachable> {
        let found = self.lookup.lookup(host).await.map_err(|error| Unreachable::NotFound(error.to_string()))?;
        self.admitted(host, port, &found)
    }

    /// What the resolver says of `host`, nothing of which was checked.
    pub(crate) async fn lookup(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        self.lookup.lookup(host).await
    }

    /// Those of the addresses found for `host` that may be connected to.
    ///
    /// # Errors
    /// [`Unreachable`].
    pub fn admitted(&self, host: &str, port: u16, found: &[IpAddr]) -> Result<Vec<SocketAddr>, Unreachable> {
        if found.is_empty() {
            return Err(Unreachable::NotFound("it has no address".to_owned()));
        }
        let name_allowed = self.allow.name(host, port);
        let (mut good, mut refused) = (Vec::new(), "");
        for address in found.iter().take(ANSWERS_MAX) {
            match self.address(*address, port, name_allowed) {
                Ok(()) => good.push(SocketAddr::new(canonical(*address), port)),
                Err(reason) => refused = reason,
            }
        }
        if good.is_empty() { Err(Unreachable::Refused(refused)) } else { Ok(good) }
    }
}
