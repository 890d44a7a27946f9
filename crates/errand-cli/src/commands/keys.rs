//! `errand keys`: API keys of the data folder. Works beside a process that owns it, which heeds what is done here at once.

use super::run::{now, say};
use super::{Context, tenant_id};
use crate::args::{Keys as Args, KeysCommand};
use crate::config::{Config, duration};
use crate::error::{Error, Exit};
use crate::text;
use crate::view::lines::Tone;
use crate::view::{Audience, print, print_json};
use errand_core::Timestamp;
use errand_keys::{Gate, InvalidKeyId, KeyId, KeyInfo, Keys, RootKey, Wanted};
use errand_store_local::{LocalHeads, key_secret};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;

/// `errand keys`.
pub(super) async fn keys(context: &Context, args: Args) -> Result<Exit, Error> {
    let config = context.plain()?;
    match args.command {
        KeysCommand::Create { tenant, name, expires } => {
            let lives_ms = expires.as_deref().map(duration).transpose()?;
            let wanted = Wanted { tenant: tenant_id(tenant.as_deref())?, name, lives_ms };
            create(context, &config, wanted).await?;
        }
        KeysCommand::List => list(context, &config).await?,
        KeysCommand::Revoke { key } => {
            let id = key.trim().parse::<KeyId>();
            // What was given may be a key: it is not repeated.
            let id = id.map_err(|error: InvalidKeyId| Error::new("key_id_invalid", error.to_string()))?;
            let key = errand_keys::revoke(&LocalHeads::of(&config.data), &id, now()).await?;
            match context.audience() {
                Audience::Machines => print_json(&shown(&key)),
                Audience::People => say(Tone::Plain, &config, &format!("key {} opens nothing any longer", key.id)),
            }
        }
    }
    Ok(Exit::Done)
}

/// The keys of a data folder, to make and to check them.
pub(super) async fn keys_of(config: &Config) -> Result<Keys, Error> {
    let data = config.data.clone();
    let secret = tokio::task::spawn_blocking(move || key_secret(&data)).await;
    let secret = secret.map_err(|error| Error::new("engine_stopped", error.to_string()))??;
    Ok(Keys::new(Arc::new(LocalHeads::of(&config.data)), RootKey::new(secret)))
}

/// Who is let in at an address. Whoever is not of this machine needs a key.
pub(super) fn gate(keys: &Keys, address: SocketAddr, require_key: bool) -> Gate {
    match address.ip().is_loopback() && !require_key {
        true => Gate::ajar(keys.clone()),
        false => Gate::closed(keys.clone()),
    }
}

/// What whoever starts a server that others reach should know.
pub(super) async fn warnings(config: &Config, address: SocketAddr, gate: &Gate) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    if !address.ip().is_loopback() {
        warnings.push(format!(
            "other machines reach {address}, and what they send is not encrypted: let a proxy in front of it do TLS"
        ));
    }
    if gate.is_closed() {
        let now = now();
        let keys = errand_keys::list(&LocalHeads::of(&config.data)).await?;
        if keys.iter().all(|key| key.useless_since(now).is_some()) {
            let data = text::path(&config.data);
            warnings.push(format!(
                "no API key is in force, so everybody is refused: `errand keys create --data {data}` makes one, which counts at once"
            ));
        }
    }
    Ok(warnings)
}

async fn create(context: &Context, config: &Config, wanted: Wanted) -> Result<(), Error> {
    let (issued, key) = keys_of(config).await?.create(wanted, now()).await?;
    if context.audience() == Audience::Machines {
        let mut object = shown(&key);
        object["key"] = issued.reveal().into();
        print_json(&object);
        return Ok(());
    }
    print(issued.reveal());
    let until = key.expires.map_or_else(String::new, |expires| format!(", good until {}", text::time(expires)));
    say(Tone::Dim, config, &format!("key {} of tenant {}{until}; it is not shown again", key.id, key.tenant));
    Ok(())
}

async fn list(context: &Context, config: &Config) -> Result<(), Error> {
    let keys = errand_keys::list(&LocalHeads::of(&config.data)).await?;
    if keys.is_empty() && context.audience() == Audience::People {
        say(Tone::Dim, config, "no keys: `errand keys create` makes one");
    }
    for key in &keys {
        match context.audience() {
            Audience::Machines => print_json(&shown(key)),
            Audience::People => print(&line(key, now())),
        }
    }
    Ok(())
}

fn line(key: &KeyInfo, now: Timestamp) -> String {
    let ago = |then: Timestamp| format!("{} ago", text::duration(now.since(then)));
    let used = key.used.map_or_else(|| "never used".to_owned(), |used| format!("used {}", ago(used)));
    format!(
        "{}  {:<16}  {:<26}  {:<20}  {}",
        key.id,
        text::one_line(key.tenant.as_str(), 16),
        standing(key, now),
        used,
        text::one_line(&key.name, 40),
    )
}

fn standing(key: &KeyInfo, now: Timestamp) -> String {
    match (key.revoked, key.expires) {
        (Some(revoked), _) => format!("revoked {} ago", text::duration(now.since(revoked))),
        (None, Some(expires)) if expires <= now => format!("expired {} ago", text::duration(now.since(expires))),
        (None, Some(expires)) => format!("in force for {}", text::duration(expires.since(now))),
        (None, None) => "in force".to_owned(),
    }
}

fn shown(key: &KeyInfo) -> Value {
    let time = |at: Option<Timestamp>| at.map(text::time);
    json!({
        "type": "key", "id": key.id.as_str(), "tenant": key.tenant, "name": key.name, "created": text::time(key.created),
        "expires": time(key.expires), "used": time(key.used), "revoked": time(key.revoked),
    })
}
