//! Why something does not pass, as the code inside is told.

use hyper::Method;
use hyper::StatusCode;

use crate::target::Target;

/// Why a request or tunnel ends. The text goes to code that nobody trusts: it tells no address and no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "{0} is not granted: its host is not on the list of this session; ask for it to be added (--allow-host), or do without"
    )]
    HostNotGranted(Target),
    #[error(
        "{0} is not granted: its host is on the list of this session, with other ports; ask for HOST:PORT to be added (--allow-host)"
    )]
    PortNotGranted(Target),
    #[error("{1} to {0} is not granted: this session may use other methods there only")]
    MethodNotGranted(Target, Method),
    #[error(
        "a tunnel to {0} is not granted: this session may use some methods there only, which a tunnel would hide; send the request to the proxy with its whole URL in the request line, https:// too"
    )]
    MethodsHidden(Target),
    #[error("{0} is not connected to: {1}; whoever runs this can allow it with the setting allow_addresses")]
    Address(Target, &'static str),
    #[error("{0} is not connected to: its address is one of those that this session was denied")]
    Denied(Target),
    #[error("the Host header does not agree with {0}: send one Host header that names the same host and port")]
    HostDisagrees(Target),
    #[error("the server name in the TLS handshake is not that of {0}: ask for the tunnel by the name that TLS will use")]
    NameDisagrees(Target),
    #[error(
        "what was sent to {0} is no TLS handshake: only TLS goes through tunnels there, unless plain text is granted (--allow-plain)"
    )]
    NoTls(Target),
    #[error("the bytes granted to this session are used up: ask for more (--egress-mib)")]
    BudgetUsed,
    #[error("the time granted to this session is over: ask for a new grant (--egress-for)")]
    TimeOver,
    #[error("the request is refused: {0}")]
    Malformed(&'static str),
    #[error("{0} was not found: {1}; check the name")]
    NotFound(Target, String),
    #[error("no connection to {0}: {1}; check the address, or try later")]
    NoConnection(Target, String),
    #[error("the answer of {0} is broken: {1}; try again")]
    Broken(Target, String),
}

impl Refusal {
    /// The stable code.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Refusal::HostNotGranted(_)
            | Refusal::PortNotGranted(_)
            | Refusal::MethodNotGranted(..)
            | Refusal::MethodsHidden(_)
            | Refusal::Address(..)
            | Refusal::Denied(_)
            | Refusal::HostDisagrees(_)
            | Refusal::NameDisagrees(_)
            | Refusal::NoTls(_) => "egress_denied",
            Refusal::BudgetUsed | Refusal::TimeOver => "egress_used_up",
            Refusal::Malformed(_) => "egress_malformed",
            Refusal::NotFound(..) | Refusal::NoConnection(..) | Refusal::Broken(..) => "egress_unreachable",
        }
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self.code() {
            "egress_malformed" => StatusCode::BAD_REQUEST,
            "egress_unreachable" => StatusCode::BAD_GATEWAY,
            _ => StatusCode::FORBIDDEN,
        }
    }
}
