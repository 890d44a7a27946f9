//! The way out of a session: what it is granted when it is made, kept in its record, and the proxy while something runs in it.

use super::warn;
use crate::args::SandboxGrant;
use crate::config::{self, Config, Keys};
use crate::error::Error;
use crate::text;
use errand_egress::{Egress, Grant, HostGrant, Pattern, Proxy, ProxyConfig, Secret, Times};
use errand_sandbox::{Session, WayOut};
use errand_tools::Vault;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What the record of a session holds of it. Secrets are named there, and looked up when something runs.
#[derive(Serialize, Deserialize)]
struct Kept {
    egress: Grant,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<Named>,
}

#[derive(Serialize, Deserialize)]
struct Named {
    name: String,
    hosts: Vec<Pattern>,
}

/// The way out of a session while a command lasts; none for one that was granted nothing.
pub(super) struct Way {
    egress: Option<(Arc<Egress>, Kept)>,
}

/// What the options of `create` grant; none if they grant nothing.
pub(super) fn granted(given: &SandboxGrant) -> Result<Option<serde_json::Value>, Error> {
    let mut hosts = Vec::new();
    for host in &given.allow_host {
        let host = HostGrant::parse(host).and_then(|host| host.only(&given.allow_method));
        hosts.push(host.map_err(|error| Error::new(error.code(), error.to_string()))?);
    }
    for host in &given.allow_plain {
        let parsed = HostGrant::parse(host).map_err(|error| Error::new(error.code(), error.to_string()))?;
        hosts.push(parsed.plain());
    }
    if hosts.is_empty() {
        return Ok(None);
    }
    let mut grant = Grant::new(hosts).map_err(|error| Error::new(error.code(), error.to_string()))?;
    if let Some(megabytes) = given.egress_mib {
        grant.bytes_max = megabytes.saturating_mul(1 << 20);
    }
    if let Some(time) = &given.egress_for {
        grant = grant.lasting(Duration::from_millis(config::duration(time)?));
    }
    let secrets = given.secret.iter().map(|secret| named(secret)).collect::<Result<_, _>>()?;
    let kept = serde_json::to_value(Kept { egress: grant, secrets });
    kept.map(Some).map_err(|error| Error::new("egress_grant_invalid", error.to_string()))
}

fn named(given: &str) -> Result<Named, Error> {
    let refuse = |problem: &str| {
        let given = text::one_line(given, 80);
        Error::new("egress_grant_invalid", format!("`{given}` names no secret: {problem}; give NAME=HOST or NAME=HOST,HOST"))
    };
    let (name, hosts) = given.split_once('=').ok_or_else(|| refuse("there is no `=`"))?;
    let hosts = hosts.split(',').map(|host| Pattern::parse(host.trim()).map_err(|problem| refuse(&problem)));
    Ok(Named { name: name.trim().to_owned(), hosts: hosts.collect::<Result<_, _>>()? })
}

impl Way {
    /// Opens it, by what the session's record says.
    pub(super) fn open(config: &Config, session: &mut Session) -> Result<Way, Error> {
        let Some(kept) = session.grant() else { return Ok(Way { egress: None }) };
        let unreadable = |problem: String| {
            let id = session.id();
            Error::new(
                "egress_grant_invalid",
                format!("the grant of session {id} cannot be read: {problem}; make another session"),
            )
        };
        let kept: Kept = serde_json::from_value(kept).map_err(|error| unreadable(error.to_string()))?;
        let grant = kept.egress.clone().checked().map_err(|error| unreadable(error.to_string()))?;
        let vault = Keys::new(config);
        let secrets = kept.secrets.iter().map(|named| found(&vault, named)).collect::<Result<_, _>>()?;
        let reach = crate::toolbox::reach(config)?;
        let proxy = Proxy::start(ProxyConfig { reach, times: Times::default(), tls: None })
            .map_err(|error| Error::new("engine_stopped", format!("the proxy cannot be started: {error}")))?;
        let egress = proxy.way_out(session.id(), grant, secrets);
        session.set_way_out(Arc::clone(&egress) as Arc<dyn WayOut>);
        Ok(Way { egress: Some((egress, kept)) })
    }

    /// Keeps how much is left, and tells a person what was refused.
    pub(super) fn close(self, session: &Session, is_person: bool) -> Result<(), Error> {
        let Some((egress, mut kept)) = self.egress else { return Ok(()) };
        let usage = egress.usage();
        kept.egress.bytes_max = kept.egress.bytes_max.saturating_sub(usage.bytes_up + usage.bytes_down);
        if is_person {
            let told: BTreeSet<&String> = usage.last_refusals.iter().map(|(_, text)| text).collect();
            told.iter().for_each(|refusal| warn(&format!("way out: {}", text::one_line(refusal, 400))));
        }
        let kept = serde_json::to_value(kept).map_err(|error| Error::new("egress_grant_invalid", error.to_string()))?;
        session.keep_grant(kept).map_err(|error| super::failed(&error))
    }

    /// For machines.
    pub(super) fn told(&self) -> serde_json::Value {
        let Some((egress, _)) = &self.egress else { return serde_json::Value::Null };
        let usage = egress.usage();
        json!({
            "allowed": usage.allowed,
            "refused": usage.refused,
            "bytes_up": usage.bytes_up,
            "bytes_down": usage.bytes_down,
            "last_refusals": usage.last_refusals.iter().map(|(code, text)| json!({"code": code, "message": text})).collect::<Vec<_>>(),
        })
    }
}

fn found(vault: &Keys, named: &Named) -> Result<Secret, Error> {
    let Named { name, hosts } = named;
    let missing = |problem: String| Error::new("tool_secret_missing", format!("the secret {name} {problem}"));
    let value = vault.secret(name).map_err(|problem| missing(format!("cannot be read: {problem}")))?;
    let value = value
        .ok_or_else(|| missing(format!("is not set: set ERRAND_SECRET_{name}, or a file of that name in `secrets`")))?;
    Secret::new(name, value.expose(), hosts.clone()).map_err(|error| Error::new(error.code(), error.to_string()))
}
