//! CONNECT: bytes both ways, to a checked address, once it is clear whom they are meant for.

use std::sync::Arc;

use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::answer::{Handover, check_host};
use crate::budget::Pulse;
use crate::grant::Wish;
use crate::refusal::Refusal;
use crate::state::State;
use crate::stream::{Counted, PIECE_BYTES, is_used_up};
use crate::target::{Place, Target};

/// Longest beginning of TLS that is looked at.
const HELLO_BYTES_MAX: usize = 64 << 10;
/// The first byte of a TLS handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;
/// A fatal alert, `access_denied` (RFC 8446, section 6.2), as a record.
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

type Inner = Counted<TcpStream>;

/// A connection that becomes a tunnel once its answer has been sent.
pub(crate) struct Tunnel {
    upgrade: OnUpgrade,
    outside: Inner,
    target: Target,
    plain: bool,
}

/// Decides on the authority, and connects.
pub(crate) async fn begin(
    mut request: Request<Incoming>,
    state: &State,
    pulse: Arc<Pulse>,
    handover: &Handover,
) -> Result<(), Refusal> {
    let uri = request.uri();
    let is_bare = uri.scheme().is_none() && uri.path_and_query().is_none();
    let authority = uri.authority().filter(|_| is_bare).ok_or(Refusal::Malformed("CONNECT names no HOST:PORT alone"))?;
    let target = Target::of(authority, None).map_err(Refusal::Malformed)?;
    let headers = request.headers();
    let has_body = !request.body().is_end_stream();
    if has_body || headers.contains_key(TRANSFER_ENCODING) || headers.contains_key(CONTENT_LENGTH) {
        return Err(Refusal::Malformed("CONNECT has no body"));
    }
    check_host(&request, &target, Some(target.port))?;
    let plain = state.decide(&target, Wish::Tunnel)?;
    let outside = Counted::outside(state.connect(&target).await?, pulse, Arc::clone(&state.budget));
    state.let_through(&target, if plain { "tunnel" } else { "TLS tunnel" });
    handover.put(Tunnel { upgrade: hyper::upgrade::on(&mut request), outside, target, plain });
    Ok(())
}

impl Tunnel {
    /// Carries bytes until both sides are done.
    pub(crate) async fn run(self, state: &State) {
        let Tunnel { upgrade, mut outside, target, plain } = self;
        let Ok(upgraded) = upgrade.await else { return };
        let Ok(Parts { io, read_buf, .. }) = upgraded.downcast::<TokioIo<Inner>>() else { return };
        let mut inside = io.into_inner();
        let begun = match plain {
            true => Ok(read_buf.to_vec()),
            false => hello(&mut inside, &read_buf, &target, state).await,
        };
        let ended = match begun {
            Ok(bytes) => carry(&mut inside, &mut outside, &bytes).await,
            Err(refusal) => {
                state.refuse(&refusal, "tunnel");
                // It may be gone already.
                let _ = inside.write_all(&ACCESS_DENIED).await;
                let _ = inside.shutdown().await;
                return;
            }
        };
        match ended {
            Err(error) if is_used_up(&error) => state.refuse(&Refusal::BudgetUsed, "tunnel"),
            Err(error) => tracing::debug!(session = state.session, %target, %error, "egress tunnel ended early"),
            Ok(()) => tracing::debug!(session = state.session, %target, "egress tunnel ended"),
        }
    }
}

async fn carry(inside: &mut Inner, outside: &mut Inner, first: &[u8]) -> std::io::Result<()> {
    outside.write_all(first).await?;
    copy_bidirectional_with_sizes(inside, outside, PIECE_BYTES, PIECE_BYTES).await.map(drop)
}

/// Reads the beginning of TLS, in which the client says whom it wants to speak to, and compares. Gives all that was read.
async fn hello(inside: &mut Inner, before: &[u8], target: &Target, state: &State) -> Result<Vec<u8>, Refusal> {
    let no_tls = || Refusal::NoTls(target.clone());
    let mut seen = before.to_vec();
    let mut acceptor = Acceptor::default();
    let reading = async {
        let mut fed = 0;
        loop {
            if seen.first().is_some_and(|first| *first != HANDSHAKE) {
                return Err(no_tls());
            }
            while fed < seen.len() {
                fed += acceptor.read_tls(&mut &seen[fed..]).map_err(|_| no_tls())?;
                if let Some(accepted) = acceptor.accept().map_err(|_| no_tls())? {
                    return Ok(accepted);
                }
            }
            let mut piece = [0u8; 4096];
            match inside.read(&mut piece).await {
                Ok(0) | Err(_) => return Err(no_tls()),
                Ok(count) => seen.extend_from_slice(&piece[..count]),
            }
            if seen.len() > HELLO_BYTES_MAX {
                return Err(no_tls());
            }
        }
    };
    let accepted = timeout(state.common.times.head, reading).await.map_err(|_| no_tls())??;
    let named = accepted.client_hello().server_name().map(Place::parse);
    match (named, &target.host) {
        (Some(Ok(named)), host) if named == *host => Ok(seen),
        // Addresses are not named there (RFC 6066, section 3).
        (None, Place::Address(_)) => Ok(seen),
        _ => Err(Refusal::NameDisagrees(target.clone())),
    }
}
