//! An emulator of AWS: `ministack`, which `cargo xtask python` installs beside the build. One server a process, on a free
//! port of the loopback interface; it ends with the process, however that ends.

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType,
};
use aws_sdk_sqs::types::QueueAttributeName;
use errand_store_aws::{Aws, Settings};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Ends the server when this process does: then nobody holds the other end of its standard input.
/// And closes its output when the server does, so that nobody waits for what a dead one says.
const WATCHED: &str = concat!(
    r#"exec 3<&0; "$0" 2>&1 3<&- & server=$!; "#,
    r#"{ read -r _ <&3; kill $server; } >/dev/null 2>&1 & exec 3<&- >&-; wait $server"#
);
/// Starts that are tried: somebody else can take the port first.
const STARTS: usize = 5;

/// The emulator of this process.
pub(crate) struct Emulator {
    /// Where it listens.
    pub(crate) endpoint: String,
    _process: Child,
}

/// The emulator; without one the reason is printed.
pub(crate) fn emulator() -> Option<&'static Emulator> {
    static EMULATOR: OnceLock<Option<Emulator>> = OnceLock::new();
    EMULATOR.get_or_init(start).as_ref()
}

#[expect(clippy::print_stderr, reason = "a test that was skipped says so")]
fn start() -> Option<Emulator> {
    let program = program();
    if !program.is_file() {
        eprintln!("skipped: there is no {}; run `cargo xtask python` first", program.display());
        return None;
    }
    for _ in 0..STARTS {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if let Some(process) = started(&program, port) {
            return Some(Emulator { endpoint: format!("http://127.0.0.1:{port}"), _process: process });
        }
    }
    panic!("{} did not start", program.display());
}

/// The server, once it says that it listens.
fn started(program: &PathBuf, port: u16) -> Option<Child> {
    let mut process = Command::new("sh")
        .arg("-c")
        .arg(WATCHED)
        .arg(program)
        .env_clear()
        // A clean environment: it is handed on to what the server starts, and nothing of it may lead to AWS.
        .env("PATH", "/usr/bin:/bin")
        .env("GATEWAY_PORT", port.to_string())
        .env("BIND_HOST", "127.0.0.1")
        .env("SERVICES", "dynamodb,s3,sqs")
        .env("SFTP_ENABLED", "0")
        .env("IOT_MTLS_ENABLED", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let says = lines.by_ref().map_while(Result::ok).find(|line| line.contains("Running on http://"));
    if says.is_none() {
        let _ = process.kill();
        let _ = process.wait();
        return None;
    }
    // What it says from now on is read, or it would wait for somebody to.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Some(process)
}

/// Three folders above this test.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().join("ministack/bin/ministack")
}

/// Settings for a table, a bucket and queues of their own.
pub(crate) fn settings(endpoint: &str) -> Settings {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let queue = |name: &str| format!("{endpoint}/000000000000/errand-{number}-{name}");
    let (table, bucket) = (format!("errand-{number}"), format!("errand-{number}"));
    let queues = [queue("steps"), queue("calls"), queue("dead")];
    let mut settings = Settings::new(&table, &bucket, queues.each_ref().map(String::as_str));
    settings.endpoint = Some(endpoint.to_owned());
    settings.region = Some("us-east-1".to_owned());
    settings
}

/// Clients for what `settings` name.
pub(crate) async fn clients(settings: Settings) -> Aws {
    let config = config(&settings).await;
    Aws::with(&config, settings).unwrap()
}

/// A table, a bucket and queues of their own; `None` without an emulator.
pub(crate) async fn aws() -> Option<Aws> {
    let settings = settings(&emulator()?.endpoint);
    make(&settings).await;
    Some(clients(settings).await)
}

/// A client of SQS for what only tests do.
pub(crate) async fn sqs(settings: &Settings) -> aws_sdk_sqs::Client {
    aws_sdk_sqs::Client::new(&config(settings).await)
}

/// A client of DynamoDB for what only tests do.
pub(crate) async fn dynamodb(settings: &Settings) -> aws_sdk_dynamodb::Client {
    aws_sdk_dynamodb::Client::new(&config(settings).await)
}

/// A client of S3 for what only tests do.
pub(crate) async fn s3(settings: &Settings) -> aws_sdk_s3::Client {
    let config = config(settings).await;
    aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build())
}

async fn config(settings: &Settings) -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "the test");
    errand_store_aws::loader(settings).credentials_provider(credentials).load().await
}

/// Makes what Terraform makes on AWS.
pub(crate) async fn make(settings: &Settings) {
    make_table(&dynamodb(settings).await, settings).await;
    s3(settings).await.create_bucket().bucket(&settings.bucket).send().await.unwrap();
    make_queues(&sqs(settings).await, settings).await;
}

async fn make_table(dynamodb: &aws_sdk_dynamodb::Client, settings: &Settings) {
    let attribute =
        |name: &str, kind| AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().unwrap();
    let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
    let index = |name: &str, hash: &str, range: &str, projection: Projection| {
        let index = GlobalSecondaryIndex::builder().index_name(name).projection(projection);
        index.key_schema(key(hash, KeyType::Hash)).key_schema(key(range, KeyType::Range)).build().unwrap()
    };
    let keys_only = Projection::builder().projection_type(ProjectionType::KeysOnly).build();
    let listed = Projection::builder().projection_type(ProjectionType::Include);
    let listed = listed.non_key_attributes("fi").non_key_attributes("la").build();
    dynamodb
        .create_table()
        .table_name(&settings.table)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("pk", ScalarAttributeType::S))
        .attribute_definitions(attribute("sk", ScalarAttributeType::S))
        .attribute_definitions(attribute("dp", ScalarAttributeType::S))
        .attribute_definitions(attribute("da", ScalarAttributeType::N))
        .attribute_definitions(attribute("lp", ScalarAttributeType::S))
        .key_schema(key("pk", KeyType::Hash))
        .key_schema(key("sk", KeyType::Range))
        .global_secondary_indexes(index("due", "dp", "da", keys_only))
        .global_secondary_indexes(index("runs", "lp", "pk", listed))
        .send()
        .await
        .unwrap();
}

/// Makes a table as somebody could who did not read how, and tells its name.
pub(crate) async fn make_bare_table(settings: &Settings) -> String {
    let name = format!("{}-bare", settings.table);
    let make = dynamodb(settings).await.create_table().table_name(&name).billing_mode(BillingMode::PayPerRequest);
    let attribute = |name: &str| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build().unwrap()
    };
    let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
    let make = make.attribute_definitions(attribute("pk")).attribute_definitions(attribute("sk"));
    make.key_schema(key("pk", KeyType::Hash)).key_schema(key("sk", KeyType::Range)).send().await.unwrap();
    name
}

async fn make_queues(sqs: &aws_sdk_sqs::Client, settings: &Settings) {
    let name = |url: &str| url.rsplit('/').next().unwrap().to_owned();
    sqs.create_queue().queue_name(name(&settings.dead)).send().await.unwrap();
    let arn = format!("arn:aws:sqs:us-east-1:000000000000:{}", name(&settings.dead));
    let redrive = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":"50"}}"#);
    for queue in [&settings.steps, &settings.calls] {
        let make = sqs.create_queue().queue_name(name(queue));
        make.attributes(QueueAttributeName::RedrivePolicy, &redrive).send().await.unwrap();
    }
}
