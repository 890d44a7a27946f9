//! One sandbox: its box, its tokens, and when its time is up.

use super::{Refused, Service};
use axum::http::StatusCode;
use errand_core::TenantId;
use errand_egress::{Egress, Grant};
use errand_keys::{KeyId, Principal, RootKey};
use errand_sandbox::{Exec, Language, Resident, Session, SessionOptions};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use subtle::ConstantTimeEq;

/// How long the inside of a box may take to answer at first.
const READY: Duration = Duration::from_secs(20);

/// How long one that is at work may take to answer before it counts as lost.
const ANSWER: Duration = Duration::from_secs(5);

/// What tokens are for: all of a sandbox, or its code alone.
const ACCESS: &str = "access";
const TRAFFIC: &str = "traffic";
/// Stands in a token in place of a key.
const NO_KEY: &str = "local";

/// Random bytes in the name of a sandbox.
const ID_BYTES: usize = 10;

pub(super) struct Sandbox {
    pub(super) id: String,
    pub(super) order: Order,
    /// Whose it is.
    pub(super) tenant: TenantId,
    /// Its tokens are made under it: each key that makes it or connects to it has its own.
    seal: RootKey,
    started: Timestamp,
    ends: Mutex<Timestamp>,
    /// What it may reach now.
    grant: Mutex<Grant>,
    /// Its way out, where the server gives sandboxes any: also to one that may reach nothing now, for it may later.
    egress: Option<Arc<Egress>>,
    /// Held by whoever changes what the sandbox is.
    standing: tokio::sync::Mutex<Standing>,
}

/// What is asked for when a sandbox is made.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) template: String,
    pub(super) image: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) timeout: Duration,
    pub(super) pauses: bool,
    /// What it may reach at first.
    pub(super) grant: Grant,
}

/// What a sandbox is just now.
pub(super) enum Standing {
    Running(Box<Resident>),
    /// Its files are there, and nothing runs.
    Paused(Arc<Session>),
    Ended,
}

impl Service {
    /// Makes a sandbox and waits until its inside answers.
    pub(super) async fn create(self: &Arc<Self>, who: &Principal, order: Order) -> Result<Arc<Sandbox>, Refused> {
        let failed = |error: getrandom::Error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        let (id, seal) = (random(ID_BYTES)?, RootKey::random().map_err(failed)?);
        let now = Timestamp::now();
        let ends = Mutex::new(later(now, order.timeout));
        let standing = tokio::sync::Mutex::new(Standing::Ended);
        let grant = Mutex::new(order.grant.clone());
        let egress = self.proxy.as_ref().map(|proxy| proxy.way_out(&id, order.grant.clone(), Vec::new()));
        let tenant = who.tenant.clone();
        let sandbox = Sandbox { id: id.clone(), order, tenant, seal, started: now, ends, grant, egress, standing };
        let sandbox = Arc::new(sandbox);
        let mut standing = sandbox.standing.lock().await;
        {
            let mut all = self.lock();
            room(&all, self.settings.running_max)?;
            // From here on it counts, and nobody gets at it before it stands.
            all.insert(id.clone(), Arc::clone(&sandbox));
        }
        let options = SessionOptions { image: sandbox.order.image.clone(), ..SessionOptions::default() };
        let (service, egress) = (Arc::clone(self), sandbox.egress.clone());
        let made = blocking(move || {
            let mut session = service.sessions.create_with(&id, &options)?;
            if let Some(egress) = egress {
                session.set_way_out(egress);
            }
            Ok(Arc::new(session))
        });
        let made = made.await;
        let begun = match made {
            Ok(session) => self.begin(&sandbox, session).await,
            Err(refused) => Err(refused),
        };
        match begun {
            Ok(resident) => *standing = Standing::Running(Box::new(resident)),
            Err(refused) => {
                self.lock().remove(&sandbox.id);
                self.clear(&sandbox.id).await;
                return Err(refused);
            }
        }
        drop(standing);
        Ok(sandbox)
    }

    /// Starts the box of a sandbox over its session.
    async fn begin(self: &Arc<Self>, sandbox: &Sandbox, session: Arc<Session>) -> Result<Resident, Refused> {
        let socket = self.socket(&sandbox.id);
        let mut exec = Exec::new(self.settings.arguments.iter());
        exec.limits = self.settings.limits.clone();
        exec.env = sandbox.order.variables.clone().into_iter().collect();
        exec.files = Language::ALL.into_iter().flat_map(|language| language.driver(&exec.limits).files).collect();
        let service = Arc::clone(self);
        let resident = blocking(move || {
            let _ = std::fs::remove_file(&socket);
            let listener = UnixListener::bind(&socket).map_err(|error| {
                Refused::new(StatusCode::INTERNAL_SERVER_ERROR, format!("no socket for the sandbox: {error}"))
            })?;
            Ok(service.engine.resident(&session, &service.settings.program, exec, OwnedFd::from(listener))?)
        });
        let resident = resident.await?;
        let answered = super::pass::is_healthy(&self.socket(&sandbox.id), READY).await;
        match answered && resident.is_alive() {
            true => Ok(resident),
            false => Err(Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the inside of the sandbox does not answer")),
        }
    }

    /// Starts a paused sandbox again; one that runs is left as it is. The time begins anew.
    pub(super) async fn resume(
        self: &Arc<Self>,
        sandbox: Arc<Sandbox>,
        timeout: Option<Duration>,
    ) -> Result<Arc<Sandbox>, Refused> {
        let id = &*sandbox.id;
        let mut standing = sandbox.standing.lock().await;
        let lost = match &*standing {
            Standing::Ended => return Err(Refused::not_found(id)),
            Standing::Running(resident) if resident.is_alive() && self.answers(id).await => None,
            Standing::Running(resident) => Some(Arc::clone(resident.session())),
            Standing::Paused(_) => None,
        };
        if let Some(session) = lost {
            // Its box was lost; its files are there.
            drop_blocking(std::mem::replace(&mut *standing, Standing::Paused(session))).await;
        }
        if let Standing::Paused(session) = &*standing {
            // It counts as running while it is being changed.
            room(&self.lock(), self.settings.running_max + 1)?;
            let session = Arc::clone(session);
            *standing = Standing::Running(Box::new(self.begin(&sandbox, session).await?));
        }
        drop(standing);
        sandbox.extend(timeout.unwrap_or(sandbox.order.timeout));
        Ok(sandbox)
    }

    async fn answers(&self, id: &str) -> bool {
        super::pass::is_healthy(&self.socket(id), ANSWER).await
    }

    /// Ends what runs in a sandbox and keeps its files. False if it was paused already.
    pub(super) async fn pause(&self, sandbox: &Sandbox) -> Result<bool, Refused> {
        let mut standing = sandbox.standing.lock().await;
        let session = match &*standing {
            Standing::Ended => return Err(Refused::not_found(&sandbox.id)),
            Standing::Paused(_) => return Ok(false),
            Standing::Running(resident) => Arc::clone(resident.session()),
        };
        let before = std::mem::replace(&mut *standing, Standing::Paused(session));
        drop_blocking(before).await;
        Ok(true)
    }

    /// Ends a sandbox and removes its files.
    pub(super) async fn end(self: &Arc<Self>, sandbox: &Sandbox) -> Result<(), Refused> {
        let id = &*sandbox.id;
        let mut standing = sandbox.standing.lock().await;
        if self.lock().remove(id).is_none() {
            return Err(Refused::not_found(id));
        }
        let before = std::mem::replace(&mut *standing, Standing::Ended);
        drop_blocking(before).await;
        self.clear(id).await;
        Ok(())
    }

    pub(super) async fn end_those_out_of_time(self: &Arc<Self>) {
        let now = Timestamp::now();
        let all: Vec<Arc<Sandbox>> = self.lock().values().map(Arc::clone).collect();
        for sandbox in all.into_iter().filter(|sandbox| sandbox.ends() <= now) {
            // One that is being changed is looked at again.
            let Ok(standing) = sandbox.standing.try_lock() else { continue };
            let is_running = matches!(&*standing, Standing::Running(_));
            drop(standing);
            let done = match sandbox.order.pauses {
                true if is_running => self.pause(&sandbox).await.map(drop),
                true => Ok(()),
                // Paused ones have no end.
                false if is_running => self.end(&sandbox).await,
                false => Ok(()),
            };
            if let Err(refused) = done {
                tracing::warn!(sandbox = sandbox.id, reason = refused.message, "a sandbox out of time could not be ended");
            }
        }
    }

    /// Removes what is left of a sandbox.
    async fn clear(self: &Arc<Self>, id: &str) {
        let (service, id, socket) = (Arc::clone(self), id.to_owned(), self.socket(id));
        let cleared = blocking(move || {
            let _ = std::fs::remove_file(socket);
            match service.sessions.open(&id) {
                Ok(session) => Ok(service.sessions.destroy(session)?),
                Err(errand_sandbox::Error::SessionMissing { .. }) => Ok(()),
                Err(error) => Err(error.into()),
            }
        });
        if let Err(refused) = cleared.await {
            tracing::warn!(reason = refused.message, "what is left of a sandbox could not be removed");
        }
    }

    pub(super) fn socket(&self, id: &str) -> PathBuf {
        self.sockets.path().join(id)
    }
}

impl Sandbox {
    pub(super) fn ends(&self) -> Timestamp {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets its end to so long from now.
    pub(super) fn extend(&self, timeout: Duration) {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = later(Timestamp::now(), timeout);
    }

    /// What it may reach.
    pub(super) fn grant(&self) -> Grant {
        self.grant.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another grant in place of that.
    pub(super) fn replace(&self, grant: Grant) {
        let mut current = self.grant.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(egress) = &self.egress {
            egress.replace(grant.clone());
        }
        *current = grant;
    }

    /// Who was given this token, or, for code alone, the one for traffic.
    pub(super) fn holder(&self, token: Option<&str>, traffic: Option<&str>, is_code: bool) -> Option<Principal> {
        let of = |what: &str, given: Option<&str>| {
            let given = given?;
            let (_, key) = given.rsplit_once('_')?;
            let key = if key == NO_KEY { None } else { Some(key.parse::<KeyId>().ok()?) };
            let holder = Principal { tenant: self.tenant.clone(), key };
            let own = self.token(what, &holder);
            bool::from(own.as_bytes().ct_eq(given.as_bytes())).then_some(holder)
        };
        of(ACCESS, token).or_else(|| if is_code { of(TRAFFIC, traffic) } else { None })
    }

    /// The token by which `who` speaks with it: a MAC over what it is for and the key, and the key's id.
    fn token(&self, what: &str, who: &Principal) -> String {
        let key = who.key.as_ref().map_or(NO_KEY, KeyId::as_str);
        format!("{}_{key}", self.seal.tag(&[what, key]))
    }

    /// While it is being changed it counts as running.
    pub(super) fn is_running(&self) -> bool {
        self.standing.try_lock().map_or(true, |standing| matches!(&*standing, Standing::Running(_)))
    }

    /// Whether its inside can be spoken to.
    pub(super) async fn is_alive(&self) -> bool {
        matches!(&*self.standing.lock().await, Standing::Running(resident) if resident.is_alive())
    }

    /// As whoever makes it, or connects to it, is told.
    pub(super) fn access(&self, who: &Principal) -> Value {
        json!({
            "templateID": self.order.template, "sandboxID": self.id, "clientID": "errand",
            "envdVersion": crate::inside::ENVD_VERSION, "envdAccessToken": self.token(ACCESS, who),
            "trafficAccessToken": self.token(TRAFFIC, who), "domain": null,
        })
    }

    /// As it is listed.
    pub(super) fn told(&self, limits: &errand_sandbox::Limits) -> Value {
        json!({
            "templateID": self.order.template, "sandboxID": self.id, "clientID": "errand",
            "envdVersion": crate::inside::ENVD_VERSION, "metadata": self.order.metadata,
            "startedAt": self.started.to_string(), "endAt": self.ends().to_string(),
            "state": if self.is_running() { "running" } else { "paused" },
            "cpuCount": limits.cpu_milli.div_ceil(1000), "memoryMB": limits.memory_bytes >> 20,
            "diskSizeMB": limits.workspace_bytes >> 20,
        })
    }

    pub(super) fn started(&self) -> Timestamp {
        self.started
    }
}

/// Refuses when as many run as may.
fn room(all: &BTreeMap<String, Arc<Sandbox>>, most: usize) -> Result<(), Refused> {
    let running = all.values().filter(|sandbox| sandbox.is_running()).count();
    if running < most {
        return Ok(());
    }
    let message = format!("{running} sandboxes are running, which is as many as may: end one, or try again later");
    Err(Refused::new(StatusCode::TOO_MANY_REQUESTS, message))
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Whether a sandbox may be called so.
pub(super) fn is_id(name: &str) -> bool {
    name.len() == 2 * ID_BYTES && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// So many random bytes, in hex.
fn random(bytes: usize) -> Result<String, Refused> {
    let mut all = [0u8; 32];
    getrandom::fill(&mut all).map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(all.iter().take(bytes).map(|byte| format!("{byte:02x}")).collect())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refused> + Send + 'static) -> Result<T, Refused> {
    let failed = |error: tokio::task::JoinError| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

/// Ending a box waits for its processes.
async fn drop_blocking(standing: Standing) {
    let _ = tokio::task::spawn_blocking(move || drop(standing)).await;
}
