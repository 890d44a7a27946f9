//! The engine's port for tools, over the registry and the workspaces.

use crate::arguments::Refused;
use crate::calculate::Calculate;
use crate::chart::{self, CSV_BYTES_MAX, Chart};
use crate::code::{Bounds, Program, Python, Shell};
use crate::files::{self, Files};
use crate::registry::Registry;
use crate::text;
use crate::time::{AskUser, Wait};
use crate::workspace::{Desk, Error, Turn, Workspaces};
use async_trait::async_trait;
use errand_core::{Outcome, RunId, Timestamp, ToolSpec, Verdict};
use errand_engine::ports::{ToolJob, ToolReply, Tools};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Carries out the built-in tools.
pub struct ToolBox {
    registry: Arc<Registry>,
    workspaces: Arc<Workspaces>,
}

impl ToolBox {
    /// From the tools there are and the place for the runs' files.
    pub fn new(registry: Arc<Registry>, workspaces: Arc<Workspaces>) -> Self {
        Self { registry, workspaces }
    }

    async fn in_workspace(
        &self,
        job: &ToolJob<'_>,
        work: impl FnOnce(&mut Desk<'_>) -> ToolReply + Send + 'static,
    ) -> ToolReply {
        let turn = Turn { run: job.run, key: job.call.idempotency_key(), workspace: job.workspace };
        self.workspaces.carry_out(turn, work).await.unwrap_or_else(|error| failed(&error))
    }
}

#[async_trait]
impl Tools for ToolBox {
    /// The arguments are checked against this program's manifest of the tool, for it is this program that takes them.
    fn check(&self, spec: &ToolSpec, arguments: &str, now: Timestamp) -> Verdict {
        let until = Request::read(&self.registry, &spec.definition.name, arguments).and_then(|request| request.until(now));
        match until {
            Ok(until) => Verdict::Accepted { until, share: None },
            Err(refused) => Verdict::Refused { code: refused.code().to_owned(), error: refused.to_string() },
        }
    }

    async fn run(&self, job: ToolJob<'_>) -> ToolReply {
        let bytes_max = usize::try_from(job.observation_bytes).unwrap_or(usize::MAX);
        let request = match Request::read(&self.registry, job.call.tool, job.call.arguments) {
            Ok(request) => request,
            Err(refused) => return ToolReply::free(Outcome::error(refused.code(), refused.to_string())),
        };
        let bounds = Bounds { time: Duration::from_millis(job.timeout_ms), observation_bytes: bytes_max };
        let reply = match request {
            Request::Echo(echo) => ToolReply::free(Outcome::Ok { text: echo.text }),
            Request::Calculate(calculate) => ToolReply::free(match calculate.run() {
                Ok(text) => Outcome::Ok { text },
                Err(error) => Outcome::error(error.code(), error.to_string()),
            }),
            Request::Program(program) => self.in_workspace(&job, move |desk| program.run(desk, bounds)).await,
            Request::Files(request) => self.in_workspace(&job, move |desk| request.run(desk, bytes_max)).await,
            Request::Chart(chart) => self.in_workspace(&job, move |desk| draw(&chart, desk)).await,
            Request::Wait(_) | Request::AskUser(_) => {
                let text = format!("`{}` is not carried out by a worker: the run itself waits", job.call.tool);
                ToolReply::free(Outcome::error("not_for_workers", text))
            }
        };
        ToolReply { outcome: bounded(reply.outcome, bytes_max), ..reply }
    }

    async fn release(&self, run: RunId) {
        if let Err(error) = self.workspaces.release(run).await {
            tracing::warn!(%run, error = %error.chain(), "the workspace of a run could not be removed");
        }
    }
}

/// A call whose arguments were checked.
enum Request {
    Echo(Echo),
    Calculate(Calculate),
    Program(Program),
    Files(files::Request),
    Chart(Box<Chart>),
    Wait(Wait),
    AskUser(AskUser),
}

/// Arguments of `echo`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Echo {
    text: String,
}

impl Request {
    fn read(registry: &Registry, tool: &str, arguments: &str) -> Result<Self, Refused> {
        let value = registry.arguments(tool, arguments)?;
        Ok(match tool {
            "echo" => Request::Echo(typed(value)?),
            "calculate" => Request::Calculate(typed(value)?),
            "python" => Request::Program(typed::<Python>(value)?.into()),
            "shell" => Request::Program(typed::<Shell>(value)?.into()),
            "files" => Request::Files(typed::<Files>(value)?.request()?),
            "chart" => {
                let chart: Box<Chart> = typed(value)?;
                chart.check()?;
                Request::Chart(chart)
            }
            "wait" => Request::Wait(typed(value)?),
            "ask_user" => Request::AskUser(typed(value)?),
            other => return Err(Refused::UnknownTool { name: other.to_owned(), known: registry.names() }),
        })
    }

    /// Until when a person or the clock is waited for.
    fn until(&self, now: Timestamp) -> Result<Option<Timestamp>, Refused> {
        match self {
            Request::Wait(wait) => wait.until(now).map(Some),
            Request::AskUser(ask) => Ok(ask.until(now)),
            _ => Ok(None),
        }
    }
}

/// What the schema let through may still be no value of its type: 1.0 is an integer in JSON Schema.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Refused> {
    serde_json::from_value(value).map_err(|error| Refused::invalid(error.to_string()))
}

fn draw(chart: &Chart, desk: &mut Desk<'_>) -> ToolReply {
    let drawn = match csv(chart, desk).map(|csv| chart.draw(csv.as_deref())) {
        Ok(Ok(drawn)) => drawn,
        Ok(Err(error)) => return ToolReply::free(Outcome::error(error.code(), error.to_string())),
        Err(error) => return failed(&error),
    };
    match write(&drawn, desk) {
        Ok(workspace) => ToolReply { workspace, ..ToolReply::free(Outcome::Ok { text: drawn.text }) },
        Err(error) => failed(&error),
    }
}

fn csv(chart: &Chart, desk: &Desk<'_>) -> Result<Option<Vec<u8>>, Error> {
    let Some(path) = chart.csv_path() else { return Ok(None) };
    let range = desk.session().read_file(path, 0, CSV_BYTES_MAX)?;
    if range.size > CSV_BYTES_MAX {
        let (bytes, max) = (range.size, CSV_BYTES_MAX);
        return Err(Error::FileTooLarge { path: path.into(), bytes, max });
    }
    Ok(Some(range.bytes))
}

fn write(drawn: &chart::Drawn, desk: &mut Desk<'_>) -> Result<Option<errand_core::Snapshot>, Error> {
    let session = desk.session_to_change();
    for (path, bytes) in &drawn.files {
        session.put_file(path, bytes)?;
    }
    Ok(desk.keep()?.0)
}

fn failed(error: &Error) -> ToolReply {
    ToolReply::free(Outcome::error(error.code(), error.chain()))
}

/// The outcome with no more text than a model is to be shown.
fn bounded(outcome: Outcome, bytes_max: usize) -> Outcome {
    match outcome {
        Outcome::Ok { text } => Outcome::Ok { text: text::bounded(&text, bytes_max, "") },
        Outcome::Error { code, text } => Outcome::Error { code, text: text::bounded(&text, bytes_max, "") },
        other => other,
    }
}
