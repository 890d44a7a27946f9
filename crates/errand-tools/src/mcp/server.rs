//! A server: started when it is needed, asked for its tools, called, started again when it died.

use super::definition::{self, Definition};
use super::form::{McpForm, ServerForm};
use super::http::{Remote, Unsent};
use super::process::{Process, Program, Said};
use super::wire::{Ending, MALFORMED};
use super::{McpError, answer};
use crate::execute::{Execute, Work};
use crate::manifest::Error;
use crate::net::Network;
use crate::secret::{Given, Masks, Missing, Vault};
use async_trait::async_trait;
use errand_core::{Class, Hash, Outcome, ToolSpec};
use errand_engine::ports::ToolReply;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientConfig, ClientRequest, ErrorCode, Implementation,
    ListToolsRequest, PaginatedRequestParams, PingRequest, ProtocolVersion, ServerResult,
};
use rmcp::service::{NotificationContext, PeerRequestOptions, RunningService, ServiceError};
use rmcp::{ClientHandler, Peer, RoleClient, ServiceExt};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Most pages of a list of tools.
const PAGES_MAX: usize = 100;
/// How long a server that let a call run out of time may take to show that it is alive.
const PONG: Duration = Duration::from_secs(2);
/// What a call keeps back of its time, to say that it is over before others do.
const RESERVE: Duration = Duration::from_millis(200);
/// Waiting between starts: the first, doubled each time up to the last.
const WAIT_FIRST: Duration = Duration::from_millis(500);
const WAIT_LAST: Duration = Duration::from_secs(60);
/// Longest time for a server to end in good order.
const CLOSE: Duration = Duration::from_secs(1);
/// Variables of the user that every program is given, as those who offer servers expect.
const VARIABLES: [&str; 8] = ["PATH", "HOME", "LANG", "USER", "LOGNAME", "SHELL", "TERM", "TMPDIR"];

/// Where a server was told of, and what it may ask for.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    pub(crate) vault: Arc<dyn Vault>,
    pub(crate) masks: Arc<Masks>,
    /// The way out, for servers behind a URL.
    pub(crate) network: Arc<Network>,
    /// Of the manifest.
    pub(crate) digest: Hash,
    /// Secrets that it needs.
    pub(crate) secrets: Vec<String>,
}

/// A server that a user added.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) form: McpForm,
    pub(crate) place: Place,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Option<Arc<Live>>,
    /// Starts and deaths since the last answer.
    failures: u32,
    /// Not to be started before.
    wait_until: Option<Instant>,
}

/// A connection that stands.
struct Live {
    service: tokio::sync::Mutex<Option<RunningService<RoleClient, Client>>>,
    peer: Peer<RoleClient>,
    ending: Ending,
    said: Said,
    listing: tokio::sync::Mutex<Option<Arc<Vec<Definition>>>>,
    is_stale: Arc<AtomicBool>,
    /// A call ran out of time: it may hang.
    is_suspect: AtomicBool,
}

/// What Errand is to a server: one that calls tools, and does nothing for it.
struct Client {
    is_stale: Arc<AtomicBool>,
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        let errand = Implementation::new("errand", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(Default::default(), errand).with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.is_stale.store(true, Ordering::SeqCst);
    }
}

impl Server {
    pub(crate) fn new(name: String, form: McpForm, place: Place) -> Self {
        Self { name, form, place, state: tokio::sync::Mutex::default() }
    }

    /// True for the name of a tool that may be one of this server.
    fn may_have(&self, tool: &str) -> bool {
        tool.strip_prefix(&*self.name).is_some_and(|rest| rest.starts_with('_'))
    }

    /// The server whose tool this name is: of `git` and `git_hub`, the latter has `git_hub_search`.
    pub(crate) fn of<'a>(servers: &'a [Arc<Self>], tool: &str) -> Option<&'a Arc<Self>> {
        servers.iter().filter(|server| server.may_have(tool)).max_by_key(|server| server.name.len())
    }

    /// The tools of the server as they are now. Starts it if need be.
    pub(crate) async fn tools(&self) -> Result<Vec<ToolSpec>, Error> {
        let deadline = Instant::now() + self.form.start_timeout();
        let live = self.live(deadline).await?;
        if let ServerForm::Url { .. } = self.form.server {
            // Such a server has no way to say that its tools changed.
            live.is_stale.store(true, Ordering::SeqCst);
        }
        let definitions = self.listing(&live, deadline).await?;
        let masked = |definition: &Definition| {
            let mut spec = definition.spec.clone();
            spec.definition.description = self.place.masks.mask(spec.definition.description);
            spec.definition.parameters = self.place.masks.mask(spec.definition.parameters);
            spec
        };
        Ok(definitions.iter().map(masked).collect())
    }

    /// Ends it in good order.
    pub(crate) async fn close(&self) {
        if let Some(live) = self.state.lock().await.live.take() {
            live.close().await;
        }
    }

    /// The connection; a new one if there is none, or if the old one is dead.
    async fn live(&self, deadline: Instant) -> Result<Arc<Live>, Error> {
        let in_time = async {
            let mut state = self.state.lock().await;
            if let Some(live) = &state.live {
                if live.is_alive().await {
                    return Ok(Arc::clone(live));
                }
                live.close().await;
                state.live = None;
                state.failed();
            }
            if let Some(until) = state.wait_until.filter(|until| *until > Instant::now()) {
                if until >= deadline {
                    let seconds = until.duration_since(Instant::now()).as_secs() + 1;
                    return Err(self
                        .unreachable(format!("it failed {} times and is tried again in {seconds} s", state.failures))
                        .into());
                }
                tokio::time::sleep_until(until).await;
            }
            // Counted before it is tried, so that a start that is broken off counts too.
            state.failed();
            let live = Arc::new(self.start().await?);
            state.live = Some(Arc::clone(&live));
            Ok(live)
        };
        match tokio::time::timeout_at(deadline, in_time).await {
            Ok(live) => live,
            Err(_) => Err(self.unreachable(format!("it did not start within {:?}", self.form.start_timeout())).into()),
        }
    }

    async fn start(&self) -> Result<Live, Error> {
        let is_stale = Arc::new(AtomicBool::new(true));
        let client = Client { is_stale: Arc::clone(&is_stale) };
        let (service, ending, said) = match &self.form.server {
            ServerForm::Command { command, args, env, folder } => {
                let own = self.place.file.parent().unwrap_or(Path::new("."));
                let folder = folder.as_ref().map_or_else(|| own.to_owned(), |folder| own.join(folder));
                let program = Program { command: command.clone(), args: args.clone(), env: self.variables(env)?, folder };
                let started = Process::start(&program, &self.name, &self.place.masks);
                let (process, ending, said) =
                    started.map_err(|error| self.unreachable(format!("{command:?} cannot be started: {error}")))?;
                (client.serve(process).await, ending, said)
            }
            ServerForm::Url { url, headers } => {
                let url = self.place.network.url(url).map_err(|error| self.unreachable(error.to_string()))?;
                let pairs = headers.iter().map(|(name, given)| Ok((name.clone(), self.value(given)?)));
                let pairs = pairs.collect::<Result<Vec<_>, Error>>()?;
                let headers = crate::added::headers(&pairs).map_err(|problem| self.unreachable(problem.to_string()))?;
                let (remote, ending) = Remote::new(Arc::clone(&self.place.network), url, headers);
                (client.serve(remote).await, ending, Said::default())
            }
        };
        let service = service.map_err(|error| {
            let problem = ending.problem().unwrap_or_else(|| chain(&error));
            self.unreachable(format!("it did not initialise: {}{}", self.shown(&problem), said.told()))
        })?;
        let peer = service.peer().clone();
        let service = tokio::sync::Mutex::new(Some(service));
        let (listing, is_suspect) = (tokio::sync::Mutex::default(), AtomicBool::new(false));
        Ok(Live { service, peer, ending, said, listing, is_stale, is_suspect })
    }

    /// The variables of its program.
    fn variables(&self, env: &BTreeMap<String, Given>) -> Result<Vec<(String, OsString)>, Error> {
        let mut variables: Vec<(String, OsString)> = Vec::new();
        for name in VARIABLES {
            variables.extend(self.place.vault.variable(name).map(|value| (name.to_owned(), value)));
        }
        for (name, given) in env {
            let value =
                match given {
                    Given::Variable { variable } => self.place.vault.variable(variable).ok_or_else(|| {
                        self.unreachable(format!("the variable {variable}, which it is to have, is not set"))
                    })?,
                    given => self.value(given)?.into(),
                };
            variables.push((name.clone(), value));
        }
        Ok(variables)
    }

    fn value(&self, given: &Given) -> Result<String, Error> {
        match given {
            Given::Literal(text) => Ok(text.clone()),
            Given::Secret { secret, prefix } => {
                let secret = self.place.masks.take(&*self.place.vault, secret).map_err(|missing| self.missing(missing))?;
                Ok(format!("{prefix}{}", secret.expose()))
            }
            Given::Variable { variable } => {
                Err(self.unreachable(format!("the variable {variable} cannot stand there")).into())
            }
        }
    }

    /// What somebody else wrote, as it may be shown.
    fn shown(&self, text: &str) -> String {
        crate::text::head(&self.place.masks.mask(text.to_owned()), 500).to_owned()
    }

    /// Its tools, asked for again if it said that they changed.
    async fn listing(&self, live: &Arc<Live>, deadline: Instant) -> Result<Arc<Vec<Definition>>, Error> {
        let mut listing = live.listing.lock().await;
        // Cleared before it is read: what changes meanwhile is read again.
        let is_stale = live.is_stale.swap(false, Ordering::SeqCst);
        // The old list is forgotten at once, so that it is not taken for a fresh one if it cannot be read now.
        if let Some(known) = listing.take()
            && !is_stale
        {
            return Ok(Arc::clone(listing.insert(known)));
        }
        let listed = match tokio::time::timeout_at(deadline, self.list(live)).await {
            Ok(listed) => listed?,
            Err(_) => {
                live.is_suspect.store(true, Ordering::SeqCst);
                return Err(self.unreachable("it did not list its tools in time".to_owned()).into());
            }
        };
        let read = definition::read(&self.name, &self.form, &self.place.digest, &listed)
            .map_err(|problem| self.unreachable(problem))?;
        for warning in &read.warnings {
            tracing::warn!(server = self.name, "MCP server {}: {}", self.name, self.place.masks.mask(warning.clone()));
        }
        let read = Arc::new(read.tools);
        *listing = Some(Arc::clone(&read));
        Ok(read)
    }

    /// All pages of the list, as the server gives it: one tool of a wrong form does not spoil the others.
    async fn list(&self, live: &Live) -> Result<Vec<Value>, McpError> {
        let mut tools = Vec::new();
        let mut cursor = None;
        for _ in 0..PAGES_MAX {
            let params = PaginatedRequestParams::default().with_cursor(cursor);
            let request = ClientRequest::ListToolsRequest(ListToolsRequest { params: Some(params), ..Default::default() });
            let answer = match live.peer.send_request(request).await {
                Ok(ServerResult::ListToolsResult(result)) => serde_json::to_value(result).unwrap_or_default(),
                Ok(ServerResult::CustomResult(result)) => result.0,
                Ok(ServerResult::EmptyResult(_)) => Value::Null,
                Ok(_) => return Err(self.protocol("its list of tools does not have the form of one")),
                Err(error) => return Err(self.failed(live, &error, "while it listed its tools")),
            };
            let Some(page) = answer["tools"].as_array() else {
                return Err(self.protocol("its list of tools does not have the form of one"));
            };
            tools.extend(page.iter().cloned());
            if tools.len() > 20 * definition::TOOLS_MAX {
                return Err(self.unreachable(format!("it lists over {} tools", 20 * definition::TOOLS_MAX)));
            }
            match answer["nextCursor"].as_str() {
                Some(next) if !next.is_empty() => cursor = Some(next.to_owned()),
                _ => return Ok(tools),
            }
        }
        Err(self.unreachable(format!("its list of tools has over {PAGES_MAX} pages")))
    }

    /// Calls a tool that is still what the run is pinned to.
    async fn call(&self, spec: &ToolSpec, key: &str, arguments: Value, deadline: Instant) -> Result<CallToolResult, Called> {
        let live = self.live(deadline).await?;
        let definitions = self.listing(&live, deadline).await?;
        let tool = definitions.iter().find(|tool| tool.spec.definition.name == spec.definition.name);
        let changed = |how: &str| McpError::Changed {
            server: self.name.clone(),
            tool: spec.definition.name.clone(),
            how: how.to_owned(),
        };
        let tool = match tool {
            None => return Err(Called::not_sent(changed("the server does not have it any longer").into())),
            Some(tool) if tool.spec.source != spec.source => {
                return Err(Called::not_sent(changed("the server, or the manifest, describes it in another way").into()));
            }
            Some(tool) => tool,
        };
        let mut params = CallToolRequestParams::new(tool.name.clone());
        params.arguments = arguments.as_object().cloned();
        let mut meta = rmcp::model::RequestMetaObject::new();
        meta.insert("errand/idempotencyKey".to_owned(), key.into());
        params.meta = Some(meta);
        let started = Instant::now();
        // A call that is dropped is cancelled at the server.
        match tokio::time::timeout_at(deadline, live.peer.call_tool_once(params)).await {
            Err(_) => {
                live.is_suspect.store(true, Ordering::SeqCst);
                Err(Called::sent(McpError::TimedOut { server: self.name.clone(), after: started.elapsed() }.into()))
            }
            Ok(Ok(CallToolResponse::Complete(result))) => {
                self.state.lock().await.answered();
                Ok(result)
            }
            Ok(Ok(_)) => {
                Err(Called::sent(self.protocol("it wants to ask back, or to answer later, which was not agreed").into()))
            }
            Ok(Err(ServiceError::McpError(error))) => {
                self.state.lock().await.answered();
                Err(match error.code {
                    MALFORMED => Called::sent(self.protocol(&error.message).into()),
                    // It went wrong on the way, and nobody says how far it came.
                    ErrorCode::INTERNAL_ERROR => Called { is_sent: true, ..Called::answered(error.message.to_string()) },
                    _ => Called::answered(error.message.to_string()),
                })
            }
            Ok(Err(ServiceError::TransportSend(error))) if !may_be_sent(&error) => {
                // A session that has ended, a key that is refused: the next call begins anew.
                live.is_suspect.store(true, Ordering::SeqCst);
                let problem = self.shown(&chain(&error));
                Err(Called::not_sent(self.unreachable(problem).into()))
            }
            Ok(Err(error)) => Err(Called::sent(self.failed(&live, &error, "during the call").into())),
        }
    }

    fn failed(&self, live: &Live, error: &ServiceError, when: &str) -> McpError {
        if let Some(problem) = live.ending.problem() {
            return self.protocol(&problem);
        }
        match error {
            ServiceError::TransportClosed | ServiceError::TransportSend(_) | ServiceError::Cancelled { .. } => {
                McpError::Died { server: self.name.clone(), when: when.to_owned(), said: live.said.told() }
            }
            other => self.protocol(&self.shown(&chain(other))),
        }
    }

    fn protocol(&self, problem: &str) -> McpError {
        McpError::Protocol { server: self.name.clone(), problem: problem.to_owned() }
    }

    fn unreachable(&self, problem: String) -> McpError {
        let file = self.place.file.display().to_string();
        McpError::Unreachable { server: self.name.clone(), file, problem }
    }

    fn missing(&self, missing: Missing) -> Error {
        Error::SecretMissing { name: self.name.clone(), file: self.place.file.clone(), missing }
    }
}

/// Whether a message that could not be sent may have reached the server all the same.
fn may_be_sent(error: &rmcp::transport::DynamicTransportError) -> bool {
    error.error.downcast_ref::<Unsent>().is_none_or(|unsent| unsent.is_sent)
}

/// An error with those below it, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(source) = below {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        below = source.source();
    }
    text
}

impl State {
    fn failed(&mut self) {
        // The first start, and the first after an answer, waits for nothing.
        let waits = self.failures.saturating_sub(1).min(16);
        self.wait_until = (self.failures > 0).then(|| Instant::now() + (WAIT_FIRST * 2u32.pow(waits)).min(WAIT_LAST));
        self.failures = self.failures.saturating_add(1);
    }

    fn answered(&mut self) {
        self.failures = 0;
        self.wait_until = None;
    }
}

impl Live {
    /// Whether calls can be sent. One that hung is asked first.
    async fn is_alive(&self) -> bool {
        if self.peer.is_transport_closed() {
            return false;
        }
        if !self.is_suspect.load(Ordering::SeqCst) {
            return true;
        }
        let ping = ClientRequest::PingRequest(PingRequest::default());
        let options = PeerRequestOptions::with_timeout(PONG);
        let pong = async { self.peer.send_request_with_option(ping, options).await?.await_response().await };
        let alive = pong.await.is_ok();
        self.is_suspect.store(!alive, Ordering::SeqCst);
        alive
    }

    async fn close(&self) {
        if let Some(mut service) = self.service.lock().await.take() {
            let _ = service.close_with_timeout(CLOSE).await;
        }
    }
}

/// Why a call came to nothing.
struct Called {
    /// Whether the server may have acted on it.
    is_sent: bool,
    code: &'static str,
    text: String,
}

impl Called {
    fn not_sent(error: Error) -> Self {
        Self { is_sent: false, code: error.code(), text: error.to_string() }
    }

    fn sent(error: Error) -> Self {
        Self { is_sent: true, ..Self::not_sent(error) }
    }

    /// The server's own word that it did not do it.
    fn answered(message: String) -> Self {
        Self { is_sent: false, code: "tool_failed", text: message }
    }
}

impl From<Error> for Called {
    fn from(error: Error) -> Self {
        Self::not_sent(error)
    }
}

/// A tool of a server.
pub(crate) struct McpTool(pub(crate) Arc<Server>);

#[async_trait]
impl Execute for McpTool {
    async fn run(&self, work: Work<'_>) -> ToolReply {
        let time = Duration::from_millis(work.job.timeout_ms);
        let deadline = Instant::now() + time.saturating_sub(RESERVE.min(time / 10));
        let key = work.job.call.idempotency_key();
        match self.0.call(work.job.spec, &key, work.arguments.clone(), deadline).await {
            Ok(result) => {
                let id = work.job.call.id;
                let stem = format!("{}-{}.{}", work.job.call.tool, id.record, id.index);
                let answer = answer::read(result, &stem);
                if answer.files.is_empty() {
                    return answer.reply();
                }
                work.in_workspace(move |desk| answer.keep(desk)).await
            }
            // Nobody knows what a server did that was lost on the way.
            Err(called) if called.is_sent && work.job.spec.class == Class::Effectful => {
                ToolReply::free(Outcome::Unknown { reason: called.text })
            }
            Err(called) => ToolReply::free(Outcome::error(called.code, called.text)),
        }
    }
}
