//! Lambda as a function sees it: its Runtime API on a free port of the loopback interface, and the program itself.

use bytes::Bytes;
use errand_core::Timestamp;
use errand_engine::ports::World;
use errand_store_aws::Settings;
use errand_store_local::SystemWorld;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::convert::Infallible;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a function told the Runtime API.
#[derive(Debug)]
pub(crate) struct Told {
    /// The end of the path: `response`, `error` or `init/error`.
    pub(crate) what: String,
    pub(crate) body: Value,
}

/// A function's program, and the Runtime API that it asks for work. It is killed when it is dropped.
pub(crate) struct Function {
    process: Child,
    events: UnboundedSender<(Value, Timestamp)>,
    told: UnboundedReceiver<Told>,
}

struct Api {
    events: Mutex<UnboundedReceiver<(Value, Timestamp)>>,
    told: UnboundedSender<Told>,
}

impl Api {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let path = request.uri().path().to_owned();
        if path.ends_with("/invocation/next") {
            // As long as nothing is to be done the question stays open.
            let Some((event, deadline)) = self.events.lock().await.recv().await else { std::future::pending().await };
            let response = Response::builder()
                .header("Lambda-Runtime-Aws-Request-Id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
                .header("Lambda-Runtime-Deadline-Ms", deadline.as_millis())
                .header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:000000000000:function:step");
            return Ok(response.body(Full::new(Bytes::from(event.to_string()))).unwrap());
        }
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let what = ["init/error", "response", "error"].iter().find(|end| path.ends_with(**end)).unwrap();
        let body = serde_json::from_slice(&body).unwrap();
        // The test may be over.
        let _ = self.told.send(Told { what: (*what).to_owned(), body });
        Ok(Response::builder().status(202).body(Full::default()).unwrap())
    }
}

impl Function {
    /// Starts `program` over what `settings` name, with `more` variables; an empty value takes one away.
    pub(crate) async fn start(program: &str, settings: &Settings, folder: &Path, more: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (events, receiver) = unbounded_channel();
        let (sender, told) = unbounded_channel();
        let api = Arc::new(Api { events: Mutex::new(receiver), told: sender });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let api = Arc::clone(&api);
                let service = service_fn(move |request| Arc::clone(&api).handle(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        let process = Command::new(program)
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", address)
            .env("AWS_LAMBDA_FUNCTION_NAME", "errand")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("TMPDIR", folder)
            .env("ERRAND_AWS_TABLE", &settings.table)
            .env("ERRAND_AWS_BUCKET", &settings.bucket)
            .env("ERRAND_AWS_STEPS_QUEUE", &settings.steps)
            .env("ERRAND_AWS_CALLS_QUEUE", &settings.calls)
            .env("ERRAND_AWS_DEAD_QUEUE", &settings.dead)
            .env("ERRAND_AWS_ENDPOINT", settings.endpoint.as_ref().unwrap())
            .env("ERRAND_SCRIPT_DIR", folder)
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { process, events, told }
    }

    /// Hands `event` to the function, to be answered in `time`; returns what it said.
    pub(crate) async fn invoke(&mut self, event: Value, time: Duration) -> Told {
        self.begin(event, time);
        self.told().await
    }

    /// Hands `event` to the function and does not wait.
    pub(crate) fn begin(&self, event: Value, time: Duration) {
        self.events.send((event, SystemWorld.now().plus(time.as_millis() as u64))).unwrap();
    }

    /// What it says next.
    pub(crate) async fn told(&mut self) -> Told {
        tokio::time::timeout(PATIENCE, self.told.recv()).await.expect("the function says nothing").unwrap()
    }

    /// kill -9.
    pub(crate) async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }

    /// Waits until it has ended by itself; true if it says that all went well.
    pub(crate) async fn ended(mut self) -> bool {
        tokio::time::timeout(PATIENCE, self.process.wait()).await.unwrap().unwrap().success()
    }
}
