//! The kind `mcp`: servers of the Model Context Protocol, whose tools become tools of Errand.
//!
//! A server is untrusted in all it says: its messages are bounded ([`wire`]), its schemas made finite
//! ([`crate::schema`]), its hints not believed unless the manifest says so ([`definition`]), and a run goes on with the
//! tools as they were when it began. A server given as a command is the user's own program: it runs as the user, outside
//! of any box, once per process, from the first run that may use it on ([`process`], [`server`]).

mod answer;
mod definition;
mod form;
mod http;
mod process;
mod server;
mod wire;

pub(crate) use form::McpForm;
pub(crate) use server::{McpTool, Place, Server};

use std::time::Duration;

/// Why a server, or a tool of it, cannot be used. The text is for people and models; it holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum McpError {
    /// It cannot be started, or does not answer as one does that starts.
    #[error("the MCP server {server:?} cannot be reached: {problem}; see that it starts by itself, and correct {file}")]
    Unreachable {
        /// Its name.
        server: String,
        /// Its manifest.
        file: String,
        /// What happened.
        problem: String,
    },
    /// It ended, or closed the connection.
    #[error("the MCP server {server:?} ended {when}{said}; the next call starts it again")]
    Died {
        /// Its name.
        server: String,
        /// At what.
        when: String,
        /// What it said last, on its standard error.
        said: String,
    },
    /// It does not keep to the protocol, or to a bound.
    #[error("the MCP server {server:?} does not keep to the protocol: {problem}")]
    Protocol {
        /// Its name.
        server: String,
        /// What is wrong.
        problem: String,
    },
    /// It did not answer in time.
    #[error("the MCP server {server:?} did not answer within {} ms", after.as_millis())]
    TimedOut {
        /// Its name.
        server: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The tool is another than when the run began, or is gone.
    #[error(
        "the tool {tool:?} of the MCP server {server:?} has changed since this run began ({how}); it is not called as another than it was: start a new run"
    )]
    Changed {
        /// The server.
        server: String,
        /// The tool.
        tool: String,
        /// What is different.
        how: String,
    },
}

impl McpError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            McpError::Unreachable { .. } => "mcp_unreachable",
            McpError::Died { .. } => "mcp_died",
            McpError::Protocol { .. } => "mcp_protocol",
            McpError::TimedOut { .. } => "timed_out",
            McpError::Changed { .. } => "tool_changed",
        }
    }
}
