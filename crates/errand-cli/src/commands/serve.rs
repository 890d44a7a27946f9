//! `errand serve`: the API, the workers and the boxes in one process over the data folder.

use super::assistants::{self, Found};
use super::run::{failed, say, tell_others};
use super::{Context, command_line, keys, start};
use crate::args::{RunOptions, Serve};
use crate::catalog::Names;
use crate::config::Config;
use crate::error::{Error, Exit};
use crate::host::Host;
use crate::live::Live;
use crate::signals::Signals;
use crate::text;
#[cfg(target_os = "linux")]
use crate::toolbox::engine_config;
use crate::view::lines::Tone;
use crate::view::{Audience, print_json};
use errand_api::{Api, Failure, Feed, Limits, Parts};
#[cfg(target_os = "linux")]
use errand_core::Tier;
use errand_engine::ports::{Blobs, Delta, Store};
use errand_keys::{Gate, Keys};
use errand_store_local::SystemWorld;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;

/// Where to serve when nobody says otherwise.
const LISTEN: &str = "127.0.0.1:8080";
/// Most sandboxes of the E2B-compatible API that run at a time.
#[cfg(target_os = "linux")]
const SANDBOXES_MAX: usize = 20;

/// `errand serve`.
pub(super) async fn serve(context: &Context, args: Serve) -> Result<Exit, Error> {
    let (mut config, assistant) = assistants::resolve(context, &args.options).await?;
    // A server is there to answer soon.
    config.sandbox.warm.get_or_insert(1);
    config.require_key |= args.require_key;
    let listen = args.listen.as_deref().or(config.listen.as_deref()).unwrap_or(LISTEN);
    let address = address(listen)?;
    let listener = bind(address).await?;
    let mut host = Host::open(&config, &command_line("serve"))?;
    let keys = match keys::keys_of(&config).await {
        Ok(keys) => keys,
        Err(error) => return failed(host, error).await,
    };
    #[cfg(target_os = "linux")]
    let _sandboxes = match sandboxes(context, &args, &config, &keys).await {
        Ok(sandboxes) => sandboxes,
        Err(error) => return failed(host, error).await,
    };
    let gate = keys::gate(&keys, address, config.require_key);
    match attend(context, &args.options, &config, assistant, &mut host, listener, gate).await {
        Ok(()) => {
            host.close().await?;
            Ok(Exit::Done)
        }
        Err(error) => failed(host, error).await,
    }
}

/// The E2B-compatible API beside, if it is asked for; it ends when this is dropped, and with it every sandbox.
#[cfg(target_os = "linux")]
async fn sandboxes(context: &Context, args: &Serve, config: &Config, keys: &Keys) -> Result<Option<Beside>, Error> {
    use errand_e2b::outside::{Service, Settings, serve};
    use errand_sandbox::{Engine, EngineConfig, Images, ImagesConfig, Limits, Sessions};
    let Some(listen) = args.e2b_listen.as_deref().or(config.e2b_listen.as_deref()) else { return Ok(None) };
    let listener = bind(address(listen)?).await?;
    let address = listener.local_addr().map_err(|error| unusable(&error.to_string()))?;
    let told = |error: errand_sandbox::Error| Error::chain(error.code(), &error);
    if config.sandbox.min_tier > Tier::T1 {
        let message = "sandboxes of the E2B-compatible API are boxes of tier t1, and these settings demand t2";
        return Err(Error::new("sandbox_tier_unavailable", message));
    }
    let boxes = EngineConfig { require_hard_quotas: config.sandbox.hard_quotas, ..engine_config(config) };
    let data = config.data.clone();
    let egress = Some((config.sandbox.egress.clone(), crate::toolbox::reach(config)?));
    let program =
        std::env::current_exe().map_err(|error| unusable(&format!("this program's file is not known: {error}")))?;
    let gate = keys::gate(keys, address, config.require_key);
    let guard = gate.clone();
    // The probe blocks: it makes boxes and waits for them.
    let service = tokio::task::spawn_blocking(move || {
        let images = Images::at(data.join("images"), ImagesConfig::default())?;
        let sessions = Sessions::at(data.join("e2b"))?.with_images(Arc::new(images));
        let settings = Settings {
            program,
            arguments: vec!["envd".to_owned()],
            limits: Limits::default(),
            running_max: SANDBOXES_MAX,
            egress,
        };
        Service::new(Arc::new(Engine::start(&boxes)?), sessions, settings, guard)
    });
    let service = service.await.map_err(|error| unusable(&error.to_string()))?.map_err(told)?;
    warn(context, config, address, &gate).await?;
    match context.audience() {
        Audience::Machines => {
            let object = json!({"type": "listening_e2b", "address": address.to_string(), "key_required": gate.is_closed()});
            print_json(&object);
        }
        Audience::People => say(Tone::Plain, config, &format!("E2B-compatible API on http://{address}")),
    }
    Ok(Some(Beside(tokio::spawn(serve(listener, service)))))
}

/// A task that ends with its holder.
#[cfg(target_os = "linux")]
struct Beside(tokio::task::JoinHandle<std::io::Result<()>>);

#[cfg(target_os = "linux")]
impl Drop for Beside {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves until the process is asked to stop.
async fn attend(
    context: &Context,
    options: &RunOptions,
    config: &Config,
    assistant: Option<Found>,
    host: &mut Host,
    listener: TcpListener,
    gate: Gate,
) -> Result<(), Error> {
    let mut signals = Signals::listen().map_err(|error| Error::new("engine_stopped", format!("no signals: {error}")))?;
    let chosen = start::choose(config, &*host.models).await?;
    let model = chosen.model.name.clone();
    let names = Names::new(&context.global, options, config, assistant, host, chosen.model);
    host.start().await?;
    let _preparing = host.tools.prepare()?;
    let broken = Broken::default();
    let feed = Feed::default();
    let (api, stop) = Api::new(parts(host, names, feed.clone(), broken.clone(), gate.clone()));
    let address = listener.local_addr().map_err(|error| unusable(&error.to_string()))?;
    let url = format!("http://{address}/v1");
    warn(context, config, address, &gate).await?;
    match context.audience() {
        Audience::Machines => {
            let (address, key_required) = (address.to_string(), gate.is_closed());
            print_json(&json!({"type": "listening", "address": address, "url": url, "model": model,
                "key_required": key_required}));
        }
        Audience::People => {
            if let Some(why) = chosen.why {
                say(Tone::Dim, config, &format!("model {model}: {why}"));
            }
            tell_others(host, config, Audience::People).await?;
            say(Tone::Plain, config, &format!("listening on {url} (Ctrl-C stops)"));
        }
    }
    let server = tokio::spawn(errand_api::serve(listener, api));
    loop {
        tokio::select! {
            live = host.live.recv() => match live {
                Some(live) => pass_on(&feed, &broken, live),
                None => return Err(Error::new("engine_stopped", "the engine stopped by itself")),
            },
            _ = signals.next() => break,
        }
    }
    signals.end_at_once();
    if context.audience() == Audience::People {
        say(Tone::Notice, config, "stopping: what is under way is handed over (Ctrl-C again ends at once)");
    }
    stop.stop();
    let _ = server.await;
    Ok(())
}

/// Tells what whoever starts a server that others reach should know.
async fn warn(context: &Context, config: &Config, address: SocketAddr, gate: &Gate) -> Result<(), Error> {
    for warning in keys::warnings(config, address, gate).await? {
        match context.audience() {
            Audience::Machines => tracing::warn!(%address, "{warning}"),
            Audience::People => say(Tone::Notice, config, &warning),
        }
    }
    Ok(())
}

fn parts(host: &Host, names: Names, feed: Feed, broken: Broken, gate: Gate) -> Parts {
    let working = host.working();
    let health = move || {
        if let Some(failure) = broken.failure() {
            return Err(failure);
        }
        match working() {
            true => Ok(()),
            false => Err(Failure::new(503, "engine_stopped", "no worker carries runs on: start the server again")),
        }
    };
    Parts {
        driver: host.driver.clone(),
        store: Arc::clone(host.folder.store()) as Arc<dyn Store>,
        blobs: Arc::clone(host.folder.blobs()) as Arc<dyn Blobs>,
        world: Arc::new(SystemWorld),
        catalog: Arc::new(names),
        feed,
        gate,
        health: Arc::new(health),
        limits: Limits::default(),
    }
}

/// What is wrong with the data folder in a way that trying again does not mend.
#[derive(Clone, Default)]
struct Broken(Arc<Mutex<Option<Failure>>>);

impl Broken {
    fn failure(&self) -> Option<Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn pass_on(feed: &Feed, broken: &Broken, live: Live) {
    match live {
        Live::Recorded { run, .. } => feed.recorded(run),
        Live::Attempt { run, record, attempt } => feed.attempt(run, record, attempt),
        Live::Delta { run, delta: Delta::Text(text), .. } => feed.text(run, &text),
        Live::Delta { run, delta: Delta::Reasoning(text), .. } => feed.reasoning(run, &text),
        Live::Delta { delta: Delta::Call { .. }, .. } | Live::Calling { .. } | Live::Called { .. } => {}
        Live::Image { name, step } => tracing::info!(image = name, step, "making an image"),
        Live::Broken { code, message } => {
            tracing::error!(code, message, "the data folder failed");
            *broken.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Failure::new(503, code, message));
        }
    }
}

/// The address that was given.
fn address(given: &str) -> Result<SocketAddr, Error> {
    let shown = text::one_line(given, 80);
    let parsed = match given.trim().strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}").parse::<SocketAddr>(),
        None => given.trim().parse(),
    };
    parsed.map_err(|_| {
        Error::new("listen_invalid", format!("`{shown}` is no address to listen on: give one such as {LISTEN}"))
    })
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            let message =
                format!("port {} is taken: stop what listens there, or give another with --listen", address.port());
            Error::new("port_taken", message)
        }
        _ => unusable(&format!("{address}: {error}")),
    })
}

fn unusable(why: &str) -> Error {
    Error::new("listen_failed", format!("nothing can be served at {why}: give another address with --listen"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_numbers_or_this_machine() {
        for given in ["127.0.0.1:0", "[::1]:8080", "localhost:8080", " 127.0.0.1:1 ", "0.0.0.0:80", "[::]:80"] {
            assert!(address(given).is_ok(), "{given}");
        }
        for given in ["8080", "localhost", "localhost:99999", "example.com:80", ""] {
            assert_eq!(address(given).unwrap_err().code, "listen_invalid", "{given}");
        }
    }

    #[test]
    fn only_loopback_is_served_without_a_key() {
        let keys = Keys::new(Arc::new(errand_store_local::LocalHeads::of(".".as_ref())), errand_keys::RootKey::new([0; 32]));
        let is_closed = |given, require| keys::gate(&keys, address(given).unwrap(), require).is_closed();
        for given in ["127.0.0.1:0", "127.3.2.1:80", "[::1]:8080", "localhost:8080"] {
            assert_eq!([is_closed(given, false), is_closed(given, true)], [false, true], "{given}");
        }
        for given in ["0.0.0.0:8080", "[::]:8080", "10.0.0.1:80", "[::ffff:10.0.0.1]:80", "[::ffff:127.0.0.1]:80"] {
            assert!(is_closed(given, false), "{given}");
        }
    }
}
