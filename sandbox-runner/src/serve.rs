//! `sandbox-runner serve`: calls of runs from queues, and sandboxes for clients that were written for E2B.

use crate::{problem, work};
use errand_e2b::outside::{Service, Settings};
use errand_egress::{AllowList, Reach, System, Terms};
use errand_keys::{Gate, Keys, RootKey};
use errand_sandbox::{Engine, EngineConfig, Images, ImagesConfig, Limits, Sessions};
use errand_store_local::{LocalHeads, key_secret};
use errand_tools::BoxSettings;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The subcommand that this program is started with in the box of a sandbox.
pub(crate) const ENVD: &str = "envd";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to serve the E2B-compatible API; other addresses than loopback need --keys
    /// [default: 127.0.0.1:3000, unless it works for runs]
    #[arg(long, value_name = "ADDRESS:PORT", verbatim_doc_comment)]
    e2b_listen: Option<SocketAddr>,
    /// Heed the API keys of this folder: those that `errand keys create --data FOLDER` makes, also while this server runs
    #[arg(long, value_name = "FOLDER")]
    keys: Option<PathBuf>,
    /// Refuse programs of this machine too if they have no API key: behind a proxy that other machines reach
    #[arg(long, requires = "keys")]
    require_key: bool,
    /// The folder for the files of its sandboxes; it belongs to this server alone
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/sandbox-runner/e2b")]
    data: PathBuf,
    /// The folder that holds the images of this host, which are its templates
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/sandbox-runner/images")]
    images: PathBuf,
    /// Most sandboxes that run at a time
    #[arg(long, value_name = "N", default_value_t = 20)]
    running_max: usize,
    /// Memory of one sandbox, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: u64,
    /// Host that sandboxes may reach, at most: HOST, HOST:PORT, *.SUFFIX, an address or a range of them, or * for everything public;
    /// methods and `plain` may stand behind it; may be given several times; none without it
    #[arg(long, value_name = "HOST")]
    egress: Vec<String>,
    /// What may pass to and from the hosts of one sandbox, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    egress_mib: u64,
    /// Address beside the public ones that hosts may have: a host, an address, either with :PORT, or a range
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    allow_address: Vec<String>,
    /// Refuse to start unless memory, processes and processor time are bounded hard
    #[arg(long)]
    require_hard_quotas: bool,
    /// Where to look for interpreters the system lacks
    #[arg(long, env = "PATH", hide_env_values = true, value_name = "FOLDERS")]
    search_path: Option<std::ffi::OsString>,
    #[command(flatten)]
    work: work::Args,
}

pub(crate) fn serve(args: &Args) -> ExitCode {
    match carry_out(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "{problem}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(args: &Args) -> Result<(), String> {
    log();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| format!("error: {error}"))?;
    runtime.block_on(attend(args))
}

/// Does all that was asked for until the process is asked to stop.
async fn attend(args: &Args) -> Result<(), String> {
    let told = |error: errand_sandbox::Error| problem::told(&error);
    let config = EngineConfig {
        search_path: args.search_path.clone(),
        require_hard_quotas: args.require_hard_quotas,
        ..EngineConfig::default()
    };
    let images = Arc::new(Images::at(&args.images, ImagesConfig::default()).map_err(told)?);
    let ports = args.work.queues.connect().await?;
    let default = SocketAddr::from(([127, 0, 0, 1], 3000));
    let e2b_listen = args.e2b_listen.or(ports.is_none().then_some(default));
    let mut stop = pin!(stop()?);
    let sandboxes = match e2b_listen {
        Some(address) => Some((address, service(args, address, &config, &images)?)),
        None => None,
    };
    let working = match ports {
        Some(ports) => {
            let boxes = BoxSettings { hard_quotas: args.require_hard_quotas, ..BoxSettings::from(config) };
            let starting = work::Working::start(ports, &args.work, boxes, images, egress(args)?);
            let working = tokio::select! {
                started = starting => started?,
                () = &mut stop => return Ok(()),
            };
            let _ = writeln!(std::io::stdout(), "runner {} works for runs (Ctrl-C stops)", working.id());
            Some(working)
        }
        None => None,
    };
    let telling = async {
        match (args.work.metrics_listen, &working) {
            (Some(address), Some(working)) => {
                let listener = bind(address, "--metrics-listen").await?;
                work::tell(listener, working.state()).await.map_err(|error| format!("error: {error}"))
            }
            _ => std::future::pending().await,
        }
    };
    let serving = async {
        match sandboxes {
            Some((address, service)) => listen(address, service).await,
            None => std::future::pending().await,
        }
    };
    // Streams may last for hours: who asks the server to stop does not wait for them.
    let ended = tokio::select! {
        ended = serving => ended,
        ended = telling => ended,
        () = &mut stop => Ok(()),
    };
    match working {
        Some(working) => {
            let left = working.leave().await.map_err(|error| problem::chain(error.code(), &error));
            ended.and(left)
        }
        None => ended,
    }
}

/// What our own code warns of, one JSON object a line, to standard error. What libraries below say is theirs.
fn log() {
    let ours = |metadata: &tracing::Metadata<'_>| {
        let target = metadata.target();
        *metadata.level() <= tracing::Level::WARN && (target.starts_with("errand") || target.starts_with("sandbox_runner"))
    };
    let lines = tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr);
    // Only here, and only once.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter_fn(ours))).try_init();
}

fn service(args: &Args, address: SocketAddr, config: &EngineConfig, images: &Arc<Images>) -> Result<Service, String> {
    let told = |error: errand_sandbox::Error| problem::told(&error);
    let engine = Arc::new(Engine::start(config).map_err(told)?);
    let sessions = Sessions::at(&args.data).map_err(told)?.with_images(Arc::clone(images));
    let settings = Settings {
        program: std::env::current_exe().map_err(|error| format!("error: this program's file is not known: {error}"))?,
        arguments: vec![ENVD.to_owned()],
        limits: Limits { memory_bytes: args.memory.saturating_mul(1 << 20), ..Limits::default() },
        running_max: args.running_max,
        egress: Some(egress(args)?),
    };
    settings.limits.validate().map_err(told)?;
    Service::new(engine, sessions, settings, gate(args, address)?).map_err(told)
}

async fn bind(address: SocketAddr, option: &str) -> Result<tokio::net::TcpListener, String> {
    tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| refused("port_taken", &format!("cannot listen on {address}: {error}; name another with {option}")))
}

fn refused(code: &str, message: &str) -> String {
    format!("error [{code}]: {message}")
}

/// Who is let in. Whoever is not of this machine needs a key.
fn gate(args: &Args, address: SocketAddr) -> Result<Gate, String> {
    let is_loopback = address.ip().is_loopback();
    match &args.keys {
        None if is_loopback => Ok(Gate::open()),
        None => {
            let message = format!("other machines reach {address}: name the folder of the API keys with --keys");
            Err(refused("listen_needs_keys", &message))
        }
        Some(folder) => {
            let told = |error: errand_store_local::Error| refused(error.code(), &error.to_string());
            let root = RootKey::new(key_secret(folder).map_err(told)?);
            let keys = Keys::new(Arc::new(LocalHeads::of(folder)), root);
            Ok(if is_loopback && !args.require_key { Gate::ajar(keys) } else { Gate::closed(keys) })
        }
    }
}

/// What sandboxes may reach at most, and by which addresses.
fn egress(args: &Args) -> Result<(Terms, Reach), String> {
    let terms = Terms::parse(&args.egress, args.egress_mib.saturating_mul(1 << 20), &[]);
    let terms = terms.map_err(|error| format!("error [{}]: --egress: {error}", error.code()))?;
    let allow = AllowList::parse(&args.allow_address);
    let allow = allow.map_err(|error| format!("error [{}]: --allow-address: {error}", error.code()))?;
    Ok((terms, Reach::new(allow, Arc::new(System))))
}

async fn listen(address: SocketAddr, service: Service) -> Result<(), String> {
    if !address.ip().is_loopback() {
        let warning =
            format!("other machines reach {address}, and what they send is not encrypted: let a proxy in front do TLS");
        let _ = writeln!(std::io::stderr(), "{warning}");
    }
    let listener = bind(address, "--e2b-listen").await?;
    let address = listener.local_addr().map_err(|error| format!("error: {error}"))?;
    let _ = writeln!(std::io::stdout(), "E2B-compatible API on http://{address} (Ctrl-C stops)");
    errand_e2b::outside::serve(listener, service).await.map_err(|error| format!("error: {error}"))
}

/// Ready when the process is asked to stop.
fn stop() -> Result<impl Future<Output = ()>, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| format!("error: no signals: {error}"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
