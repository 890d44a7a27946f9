//! What all connections of one session share.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use crate::budget::{Budget, Pace};
use crate::grant::{Grant, Wish};
use crate::proxy::Common;
use crate::reach::Unreachable;
use crate::refusal::Refusal;
use crate::secret::Secret;
use crate::target::{Place, Target};

/// How long the answer of the resolver holds for a session.
const PIN: Duration = Duration::from_secs(60);
/// Names whose answers are held.
const PINS_MAX: usize = 512;
/// Names of one session that are looked up at the same time.
const LOOKUPS_MAX: usize = 4;
/// Addresses of one name that are tried.
const TRIES_MAX: usize = 4;
/// Refusals that are kept to be shown.
const TOLD_MAX: usize = 20;

/// How much a session has used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests and tunnels that were let through.
    pub allowed: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Bytes sent to hosts.
    pub bytes_up: u64,
    /// Bytes received from hosts.
    pub bytes_down: u64,
    /// The last refusals: stable code and text.
    pub last_refusals: Vec<(String, String)>,
}

impl Usage {
    /// What came after `before`.
    #[must_use]
    pub fn since(&self, before: &Usage) -> Usage {
        let refused = self.refused.saturating_sub(before.refused);
        let new = usize::try_from(refused).unwrap_or(usize::MAX).min(self.last_refusals.len());
        Usage {
            allowed: self.allowed.saturating_sub(before.allowed),
            refused,
            bytes_up: self.bytes_up.saturating_sub(before.bytes_up),
            bytes_down: self.bytes_down.saturating_sub(before.bytes_down),
            last_refusals: self.last_refusals[self.last_refusals.len() - new..].to_vec(),
        }
    }
}

/// A session, as its connections see it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) session: String,
    pub(crate) common: Arc<Common>,
    grant: Mutex<Arc<Grant>>,
    /// Tells connections that the grant is another.
    changed: watch::Sender<()>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) budget: Arc<Budget>,
    connections: Arc<Semaphore>,
    lookups: Semaphore,
    pace: Mutex<Pace>,
    pins: Mutex<HashMap<String, (Instant, Vec<IpAddr>)>>,
    allowed: AtomicU64,
    refused: AtomicU64,
    told: Mutex<VecDeque<(String, String)>>,
}

/// The right to one connection: of the session's and of all.
pub(crate) struct Permit {
    _session: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl State {
    pub(crate) fn new(session: &str, common: Arc<Common>, grant: Grant, secrets: Vec<Secret>) -> State {
        State {
            session: session.to_owned(),
            budget: Arc::new(Budget::new(grant.bytes_max)),
            connections: Arc::new(Semaphore::new(common.connections_each)),
            common,
            grant: Mutex::new(Arc::new(grant)),
            changed: watch::Sender::new(()),
            secrets,
            lookups: Semaphore::new(LOOKUPS_MAX),
            pace: Mutex::new(Pace::new(Instant::now())),
            pins: Mutex::default(),
            allowed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            told: Mutex::default(),
        }
    }

    /// Waits until this session may have one more connection. None once there is no proxy any longer.
    pub(crate) async fn admit(&self) -> Option<Permit> {
        let wait = lock(&self.pace).take(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let session = Arc::clone(&self.connections).acquire_owned().await.ok()?;
        let all = Arc::clone(&self.common.connections).acquire_owned().await.ok()?;
        Some(Permit { _session: session, _all: all })
    }

    pub(crate) fn grant(&self) -> Arc<Grant> {
        Arc::clone(&lock(&self.grant))
    }

    /// Puts another grant in place of this one; its bytes are not looked at. Connections made by the one before end.
    pub(crate) fn replace(&self, grant: Grant) {
        *lock(&self.grant) = Arc::new(grant);
        self.changed.send_replace(());
    }

    /// To be asked for before anything is decided, so that no change is missed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Whether a wish may be fulfilled now; tells whether a tunnel may carry anything.
    pub(crate) fn decide(&self, target: &Target, wish: Wish<'_>) -> Result<bool, Refusal> {
        let grant = self.grant();
        if grant.time_left().is_some_and(|left| left.is_zero()) {
            return Err(Refusal::TimeOver);
        }
        let plain = grant.decide(target, wish)?;
        if self.budget.is_used_up() {
            return Err(Refusal::BudgetUsed);
        }
        Ok(plain)
    }

    /// A connection to an address of the target that was checked; nothing asks for its name again in between.
    pub(crate) async fn connect(&self, target: &Target) -> Result<TcpStream, Refusal> {
        let (reach, port) = (&self.common.reach, target.port);
        let good = match &target.host {
            Place::Address(address) => {
                let checked = reach.address(*address, port, false).map_err(Unreachable::Refused);
                checked.map(|()| vec![SocketAddr::new(*address, port)])
            }
            Place::Name(name) => reach.admitted(name, port, &self.pinned(name, target).await?),
        };
        let good = good.map_err(|unreachable| match unreachable {
            Unreachable::Refused(kind) => Refusal::Address(target.clone(), kind),
            Unreachable::NotFound(problem) => Refusal::NotFound(target.clone(), problem),
        })?;
        let (grant, found) = (self.grant(), good.len());
        let good: Vec<SocketAddr> = good.into_iter().filter(|address| !grant.denies(address.ip())).collect();
        if good.is_empty() && found > 0 {
            return Err(Refusal::Denied(target.clone()));
        }
        let mut problem = "it took too long".to_owned();
        for address in good.into_iter().take(TRIES_MAX) {
            match timeout(self.common.times.connect, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Only a matter of speed.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => problem = error.kind().to_string(),
                Err(_) => {}
            }
        }
        Err(Refusal::NoConnection(target.clone(), problem))
    }

    /// What a name resolved to, at most a minute ago.
    async fn pinned(&self, name: &str, target: &Target) -> Result<Vec<IpAddr>, Refusal> {
        let not_found = |problem: String| Refusal::NotFound(target.clone(), problem);
        if let Some(addresses) = self.pin(name) {
            return Ok(addresses);
        }
        let _turn = self.lookups.acquire().await.map_err(|error| not_found(error.to_string()))?;
        // Somebody before may have asked for the same.
        if let Some(addresses) = self.pin(name) {
            return Ok(addresses);
        }
        let lookup = timeout(self.common.times.connect, self.common.reach.lookup(name));
        let found = lookup.await.map_err(|_| not_found("the resolver took too long".to_owned()))?;
        let found = found.map_err(|error| not_found(error.to_string()))?;
        let mut pins = lock(&self.pins);
        if pins.len() >= PINS_MAX {
            pins.clear();
        }
        pins.insert(name.to_owned(), (Instant::now(), found.clone()));
        Ok(found)
    }

    fn pin(&self, name: &str) -> Option<Vec<IpAddr>> {
        let pins = lock(&self.pins);
        pins.get(name).filter(|(since, _)| since.elapsed() < PIN).map(|(_, addresses)| addresses.clone())
    }

    /// Notes that something is let through.
    pub(crate) fn let_through(&self, target: &Target, how: &str) {
        self.allowed.fetch_add(1, Ordering::Relaxed);
        tracing::info!(session = self.session, host = %target.host, port = target.port, how, "egress allowed");
    }

    /// Notes that something is refused.
    pub(crate) fn refuse(&self, refusal: &Refusal, how: &str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(session = self.session, code = refusal.code(), how, reason = %refusal, "egress refused");
        let mut told = lock(&self.told);
        if told.len() == TOLD_MAX {
            told.pop_front();
        }
        told.push_back((refusal.code().to_owned(), refusal.to_string()));
    }

    pub(crate) fn usage(&self) -> Usage {
        let (bytes_up, bytes_down) = self.budget.passed();
        Usage {
            allowed: self.allowed.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            bytes_up,
            bytes_down,
            last_refusals: lock(&self.told).iter().cloned().collect(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds it can panic half way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
