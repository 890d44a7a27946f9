//! The built-in tools: the arguments of each as a type, and the module that carries it out.

use crate::arguments::Refused;
use crate::calculate::Calculate;
use crate::chart::{self, CSV_BYTES_MAX, Chart};
use crate::code::{Node, Program, Python, Shell};
use crate::execute::{Checked, Execute, Work, failed};
use crate::files::{self, Files};
use crate::office::{Data, Document, Job};
use crate::time::{AskUser, Wait};
use crate::web::fetch::Fetch;
use crate::web::graphql::GraphQl;
use crate::web::http::Http;
use crate::web::search::Search;
use crate::workspace::{Desk, Error};
use async_trait::async_trait;
use errand_core::{Class, Outcome, Timestamp};
use errand_engine::ports::ToolReply;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Carries out the built-in tools.
pub(crate) struct BuiltIn;

#[async_trait]
impl Execute for BuiltIn {
    fn check(&self, tool: &str, arguments: &Value, now: Timestamp) -> Result<Checked, Refused> {
        let request = Request::read(tool, arguments)?;
        Ok(Checked { until: request.until(now)?, class: request.class() })
    }

    async fn run(&self, work: Work<'_>) -> ToolReply {
        let request = match Request::read(work.job.call.tool, &work.arguments) {
            Ok(request) => request,
            Err(refused) => return ToolReply::free(Outcome::error(refused.code(), refused.to_string())),
        };
        let bounds = work.bounds();
        match request {
            Request::Echo(echo) => ToolReply::free(Outcome::Ok { text: echo.text }),
            Request::Calculate(calculate) => ToolReply::free(match calculate.run() {
                Ok(text) => Outcome::Ok { text },
                Err(error) => Outcome::error(error.code(), error.to_string()),
            }),
            Request::Program(program) => {
                let language = program.language();
                work.in_workspace_with(language, move |desk| program.run(desk, bounds)).await
            }
            Request::Files(request) => work.in_workspace(move |desk| request.run(desk, bounds.observation_bytes)).await,
            Request::Chart(chart) => work.in_workspace(move |desk| draw(&chart, desk)).await,
            Request::Office(job) => work.in_workspace(move |desk| job.run(desk, bounds)).await,
            Request::Fetch(fetch) => fetch.run(&work).await,
            Request::GraphQl(graphql, _) => graphql.run(&work).await,
            Request::Http(http) => http.run(&work).await,
            Request::Search(search) => search.run(&work).await,
            Request::Wait(_) | Request::AskUser(_) => {
                let text = format!("`{}` is not carried out by a worker: the run itself waits", work.job.call.tool);
                ToolReply::free(Outcome::error("not_for_workers", text))
            }
        }
    }
}

/// A call whose arguments were checked.
enum Request {
    Echo(Echo),
    Calculate(Calculate),
    Program(Box<Program>),
    Files(files::Request),
    Chart(Box<Chart>),
    Office(Box<Job>),
    Fetch(Fetch),
    GraphQl(Box<GraphQl>, Class),
    Http(Box<Http>),
    Search(Search),
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
    fn read(tool: &str, value: &Value) -> Result<Self, Refused> {
        Ok(match tool {
            "echo" => Request::Echo(typed(value)?),
            "calculate" => Request::Calculate(typed(value)?),
            "python" => Request::Program(Box::new(typed::<Python>(value)?.into())),
            "node" => Request::Program(Box::new(typed::<Node>(value)?.into())),
            "shell" => Request::Program(Box::new(typed::<Shell>(value)?.into())),
            "files" => Request::Files(typed::<Files>(value)?.request()?),
            "chart" => {
                let chart: Box<Chart> = typed(value)?;
                chart.check()?;
                Request::Chart(chart)
            }
            "document" => {
                let document: Document = typed(value)?;
                document.check()?;
                Request::Office(Box::new(document.job()))
            }
            "data" => {
                let data: Data = typed(value)?;
                data.check()?;
                Request::Office(Box::new(data.job()))
            }
            "fetch" => Request::Fetch(typed(value)?),
            "graphql" => {
                let graphql: Box<GraphQl> = typed(value)?;
                let class = graphql.check()?;
                Request::GraphQl(graphql, class)
            }
            "http" => {
                let http: Box<Http> = typed(value)?;
                http.check()?;
                Request::Http(http)
            }
            "search" => Request::Search(typed(value)?),
            "wait" => Request::Wait(typed(value)?),
            "ask_user" => Request::AskUser(typed(value)?),
            other => return Err(Refused::UnknownTool { name: other.to_owned(), known: Vec::new() }),
        })
    }

    /// What repeating the call would do, where the arguments decide that.
    fn class(&self) -> Option<Class> {
        match self {
            Request::GraphQl(_, class) => Some(*class),
            Request::Http(http) => Some(http.class()),
            _ => None,
        }
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
fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, Refused> {
    T::deserialize(value).map_err(|error| Refused::invalid(error.to_string()))
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
