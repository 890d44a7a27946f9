//! A proxy between the SDK and the emulator that does to calls what networks and services do: refuses, fails, cuts, loses
//! the answer of what was done, does it twice, keeps waiting. It also counts.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// A call as the proxy sees it.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Such as `PutItem`, `SendMessageBatch`, `s3:PUT`.
    pub(crate) action: String,
    /// Which try of the SDK it is, from 1.
    pub(crate) attempt: u32,
    /// Bytes sent.
    pub(crate) bytes: usize,
}

/// What is done to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It is refused with this status, code and message, and not carried out.
    Refuse(u16, &'static str, String),
    /// The connection ends before it is carried out.
    Cut,
    /// It is carried out, and the connection ends before the answer.
    Lose,
    /// It is carried out twice; the second answer arrives.
    Twice,
    /// It is carried out, and no answer ever comes.
    Stall,
}

impl Fault {
    /// What AWS answers when it is asked for too much.
    pub(crate) fn throttled(action: &str) -> Self {
        match action.starts_with("s3:") {
            true => Fault::Refuse(503, "SlowDown", "Please reduce your request rate.".to_owned()),
            false => Fault::Refuse(400, "ThrottlingException", "Rate exceeded".to_owned()),
        }
    }

    /// What AWS answers when it fails.
    pub(crate) fn failed() -> Self {
        Fault::Refuse(500, "InternalServerError", "an internal error".to_owned())
    }
}

type Plan = dyn Fn(&Call) -> Fault + Send + Sync;

/// A running proxy; it ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) endpoint: String,
    inner: Arc<Inner>,
}

struct Inner {
    upstream: String,
    client: Client<HttpConnector, Full<Bytes>>,
    plan: Mutex<Arc<Plan>>,
    calls: Mutex<Vec<Call>>,
    answered: AtomicUsize,
}

impl Proxy {
    /// A proxy to `upstream` that does nothing to calls yet.
    pub(crate) async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Inner {
            upstream: upstream.to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            plan: Mutex::new(Arc::new(|_: &Call| Fault::None)),
            calls: Mutex::default(),
            answered: AtomicUsize::new(0),
        });
        let proxy = Self { endpoint, inner: Arc::clone(&inner) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let inner = Arc::clone(&inner);
                let service = service_fn(move |request| Arc::clone(&inner).handle(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        proxy
    }

    /// From now on does to calls what `plan` says.
    pub(crate) fn plan(&self, plan: impl Fn(&Call) -> Fault + Send + Sync + 'static) {
        *self.inner.plan.lock().unwrap() = Arc::new(plan);
    }

    /// Takes out the calls seen so far, tries that were refused or cut included.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.inner.calls.lock().unwrap())
    }

    /// Takes out how many bytes of answers came so far.
    pub(crate) fn take_answered(&self) -> usize {
        self.inner.answered.swap(0, Ordering::Relaxed)
    }
}

/// Ends the connection.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut")]
struct IsCut;

impl Inner {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, IsCut> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| IsCut)?.to_bytes();
        let call = Call { action: action(&head), attempt: attempt(&head), bytes: body.len() };
        self.calls.lock().unwrap().push(call.clone());
        let plan = Arc::clone(&self.plan.lock().unwrap());
        let fault = plan(&call);
        match fault {
            Fault::Refuse(status, code, message) => return Ok(refusal(&call, status, code, &message)),
            Fault::Cut => return Err(IsCut),
            _ => {}
        }
        if fault == Fault::Twice {
            self.forward(&head, &body).await?;
        }
        let answer = self.forward(&head, &body).await?;
        match fault {
            Fault::Lose => Err(IsCut),
            Fault::Stall => std::future::pending().await,
            _ => Ok(answer),
        }
    }

    async fn forward(&self, head: &hyper::http::request::Parts, body: &Bytes) -> Result<Response<Full<Bytes>>, IsCut> {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder().method(&head.method).uri(format!("{}{path}", self.upstream));
        for (name, value) in &head.headers {
            request = request.header(name, value);
        }
        let answer = self.client.request(request.body(Full::new(body.clone())).unwrap()).await.map_err(|_| IsCut)?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|_| IsCut)?.to_bytes();
        self.answered.fetch_add(body.len(), Ordering::Relaxed);
        Ok(Response::from_parts(head, Full::new(body)))
    }
}

fn action(head: &hyper::http::request::Parts) -> String {
    let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    match target.and_then(|target| target.split_once('.')) {
        Some((_, action)) => action.to_owned(),
        None => format!("s3:{}", head.method),
    }
}

/// `amz-sdk-request: attempt=1; max=3`
fn attempt(head: &hyper::http::request::Parts) -> u32 {
    let header = head.headers.get("amz-sdk-request").and_then(|header| header.to_str().ok()).unwrap_or_default();
    header.split("attempt=").nth(1).and_then(|rest| rest.split(';').next()?.trim().parse().ok()).unwrap_or(1)
}

fn refusal(call: &Call, status: u16, code: &str, message: &str) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status);
    if call.action.starts_with("s3:") {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>");
        let body = if call.action == "s3:HEAD" { Bytes::new() } else { Bytes::from(body) };
        return response.header("content-type", "application/xml").body(Full::new(body)).unwrap();
    }
    let body = serde_json::json!({ "__type": format!("com.amazonaws#{code}"), "message": message }).to_string();
    response.header("content-type", "application/x-amz-json-1.0").body(Full::new(Bytes::from(body))).unwrap()
}
