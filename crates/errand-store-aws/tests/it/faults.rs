//! What becomes of calls when networks and services fail: nothing is lost, nothing is done twice, and whoever has to do
//! something about it is told what.

use crate::conformance::{self, sample};
use crate::emulator::{self, clients, emulator, make, settings};
use crate::proxy::{Call, Fault, Proxy};
use crate::world::Clock;
use errand_core::{Item, RunLog};
use errand_engine::ports::{
    Assistants, Blobs, Commit, Heads, Inbox, Message, PortError, Put, Queue, RunFilter, RunSummary, Store,
};
use errand_store_aws::{Aws, Error, Settings};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A table, a bucket and queues of their own behind a proxy.
async fn behind_proxy() -> Option<(Proxy, Aws)> {
    let proxy = Proxy::start(&emulator()?.endpoint).await;
    let aws = behind(&proxy).await;
    Some((proxy, aws))
}

async fn behind(proxy: &Proxy) -> Aws {
    let mut settings = settings(&emulator().unwrap().endpoint);
    make(&settings).await;
    settings.endpoint = Some(proxy.endpoint.clone());
    clients(settings).await
}

/// Refuses, fails or cuts every eighth first try, by turns. With much more the SDK stops trying again, as it does where a
/// service is down.
fn every_eighth_try() -> impl Fn(&Call) -> Fault {
    let turn = AtomicU32::new(0);
    move |call| match (call.attempt, turn.fetch_add(1, Ordering::Relaxed) % 24) {
        (1, 0) => Fault::throttled(&call.action),
        (1, 8) => Fault::failed(),
        (1, 16) => Fault::Cut,
        _ => Fault::None,
    }
}

async fn begun(store: &dyn Store, number: u64) -> RunLog {
    let log = sample::log(sample::run(number), sample::at(number));
    assert_eq!(store.begin(log.run.id, &log.records, sample::at(number)).await.unwrap(), Commit::Stored);
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adapters_conform_where_calls_fail() {
    let Some((proxy, aws)) = behind_proxy().await else { return };
    proxy.plan(every_eighth_try());
    conformance::blobs(async || Arc::new(aws.blobs()) as Arc<dyn Blobs>).await;
    conformance::assistants(async || Arc::new(aws.assistants()) as Arc<dyn Assistants>).await;
    conformance::store(async || Arc::new(behind(&proxy).await.store()) as Arc<dyn Store>).await;
    let calls = proxy.take_calls();
    assert!(calls.iter().filter(|call| call.attempt > 1).count() > calls.len() / 12, "calls did fail");
}

/// An answer that was lost is asked for again by the SDK, and the second try finds the first one's work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_was_lost_finds_itself() {
    let Some((proxy, aws)) = behind_proxy().await else { return };
    for fault in [Fault::Lose, Fault::Twice] {
        let lost = fault.clone();
        proxy.plan(move |call| if call.attempt == 1 { lost.clone() } else { Fault::None });
        let number = if fault == Fault::Lose { 1 } else { 2 };
        let store = aws.store();
        let mut log = begun(&store, number).await;
        let run = log.run.id;
        let record = sample::step(&log, 1, 3, true);
        assert_eq!(store.commit(run, &record, None).await.unwrap(), Commit::Taken(Arc::clone(&record.record)), "its own");
        log.push(record);
        let claim = sample::claim(3, 1, 9, sample::at(1_000));
        assert_eq!(store.put(run, &claim, None).await.unwrap(), Put::Taken(claim.clone()), "its own");
        // A transaction is known by its token, and done once.
        let due = store.load(run).await.unwrap().unwrap().due.unwrap();
        let message = sample::message("1", "hello");
        assert_eq!(store.put(run, &message, Some(sample::at(50))).await.unwrap(), Put::Stored);
        let woken = store.load(run).await.unwrap().unwrap();
        assert_eq!((woken.due.unwrap().at, woken.due.unwrap().version), (sample::at(50), due.version + 1));
        assert_eq!(woken.log.records, log.records);
        assert_eq!(woken.log.items.len(), 2);
        assert!(store.move_due(run, woken.due, None).await.unwrap(), "a move that was tried twice has moved");
        let name = format!("session.{number}");
        assert!(aws.heads().replace(&name, None, b"one").await.unwrap());
        assert!(aws.heads().replace(&name, Some(b"one"), b"two").await.unwrap());
        assert!(!aws.heads().replace(&name, Some(b"one"), b"two").await.unwrap(), "somebody else's, though the same");
        assert!(aws.heads().remove(&name, b"two").await.unwrap());
        assert!(aws.assistants().put("clerk", number, "text").await.unwrap());
        let hash = aws.blobs().put(&[number as u8; 9]).await.unwrap();
        assert_eq!(aws.blobs().get(&hash).await.unwrap().unwrap(), [number as u8; 9]);
    }
}

/// A message whose answer was lost may be there twice, and never not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_survive_lost_answers() {
    let Some((proxy, aws)) = behind_proxy().await else { return };
    let clock = Clock::new();
    let lost = |call: &Call| if call.attempt == 1 && call.action != "ReceiveMessage" { Fault::Lose } else { Fault::None };
    proxy.plan(lost);
    let (queue, inbox) = (aws.queue(clock.clone()), aws.inbox(&aws.settings().steps, clock, 10));
    let step = |record| Message::Step { run: sample::run(1), record, not_before: None };
    for record in 2..5 {
        queue.send(step(record)).await.unwrap();
    }
    let mut received = Vec::new();
    while !(2..5).all(|record| received.contains(&step(record))) {
        let delivery = inbox.receive().await.unwrap();
        inbox.ack(&delivery).await;
        received.push(delivery.message);
    }
    assert!(received.len() <= 6);
}

/// An answer that never comes ends with the time of a try; the next try finds out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_never_comes_is_not_waited_for() {
    let Some((proxy, aws)) = behind_proxy().await else { return };
    let store = aws.store();
    let log = begun(&store, 1).await;
    let record = sample::step(&log, 0, 3, false);
    proxy.plan(|call| if call.attempt == 1 { Fault::Stall } else { Fault::None });
    let committed = store.commit(log.run.id, &record, None).await.unwrap();
    assert_eq!(committed, Commit::Taken(Arc::clone(&record.record)));
}

/// What goes on failing is an error that says so, and that it may pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_on_failing_is_to_be_tried_again() {
    let Some((proxy, aws)) = behind_proxy().await else { return };
    let store = aws.store();
    let log = begun(&store, 1).await;
    let record = sample::step(&log, 0, 3, false);
    for fault in [Fault::throttled(""), Fault::failed(), Fault::Cut] {
        proxy.plan(move |_| fault.clone());
        let error = store.commit(log.run.id, &record, None).await.unwrap_err();
        assert!(matches!(&error, PortError::Retry { message } if message.contains("dynamodb:PutItem")), "{error:?}");
    }
    proxy.plan(|_| Fault::None);
    assert_eq!(store.commit(log.run.id, &record, None).await.unwrap(), Commit::Stored);
}

/// Another transaction on the same row is in the way: it is tried again, whatever the SDK thinks of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_in_the_way_are_waited_for() {
    let Some((proxy, aws)) = behind_proxy().await else { return };
    let store = aws.store();
    let log = begun(&store, 1).await;
    let tries = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&tries);
    proxy.plan(move |call| match call.action.as_str() {
        "PutItem" | "UpdateItem" if seen.fetch_add(1, Ordering::Relaxed) < 3 => {
            Fault::Refuse(400, "TransactionConflictException", "Transaction is ongoing for the item".to_owned())
        }
        _ => Fault::None,
    });
    let record = sample::step(&log, 0, 3, false);
    assert_eq!(store.commit(log.run.id, &record, None).await.unwrap(), Commit::Stored);
    assert_eq!(tries.swap(0, Ordering::Relaxed), 4);
    let due = store.load(log.run.id).await.unwrap().unwrap().due;
    assert!(store.move_due(log.run.id, due, Some(sample::at(9))).await.unwrap());
    assert_eq!(tries.load(Ordering::Relaxed), 4);
}

/// What a person has to do something about names it, and is not tried again for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_say_what_to_do() {
    let Some((proxy, aws)) = behind_proxy().await else { return };
    let log = begun(&aws.store(), 1).await;
    let arn = "User: arn:aws:iam::1:user/a is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:x";
    let refusals = [
        (400, "AccessDeniedException", arn, "aws_denied", "kms:Decrypt"),
        (400, "AccessDeniedException", "no", "aws_denied", "dynamodb:Query"),
        (400, "UnrecognizedClientException", "The security token is invalid", "aws_credentials", "renew"),
        (400, "ExpiredTokenException", "The security token expired", "aws_credentials", "expired"),
        (400, "InvalidSignatureException", "Signature expired: 1 is now earlier than 2", "aws_clock", "set the clock"),
        (400, "ValidationException", "The table does not have the specified index: due", "aws_table_wrong", "index"),
        (400, "ValidationException", "something else", "aws_refused", "something else"),
        (400, "ResourceNotFoundException", "Requested resource not found", "aws_table_missing", "us-east-1"),
    ];
    for (status, code, message, expected, says) in refusals {
        let message = message.to_owned();
        proxy.plan(move |_| Fault::Refuse(status, code, message.clone()));
        let error = aws.store().load(log.run.id).await.unwrap_err();
        assert!(error.code() == expected && error.to_string().contains(says), "{code}: {error:?}");
    }
    let of_s3 = [
        (403, "AccessDenied", "aws_denied", "s3:PutObject"),
        (301, "PermanentRedirect", "aws_region", "region"),
        (400, "AuthorizationHeaderMalformed", "aws_region", "region"),
        (403, "RequestTimeTooSkewed", "aws_clock", "set the clock"),
        (403, "SignatureDoesNotMatch", "aws_credentials", "renew"),
        (404, "NoSuchBucket", "aws_bucket_missing", "us-east-1"),
    ];
    for (status, code, expected, says) in of_s3 {
        proxy.plan(move |_| Fault::Refuse(status, code, "no".to_owned()));
        let error = aws.blobs().put(b"x").await.unwrap_err();
        assert!(error.code() == expected && error.to_string().contains(says), "{code}: {error:?}");
    }
    let queue = aws.queue(Clock::new());
    let message = Message::Step { run: sample::run(1), record: 2, not_before: None };
    for (code, expected) in [("AccessDeniedException", "aws_denied"), ("QueueDoesNotExist", "aws_queue_missing")] {
        proxy.plan(move |_| Fault::Refuse(400, code, "no".to_owned()));
        let error = queue.send(message.clone()).await.unwrap_err();
        assert!(error.code() == expected, "{code}: {error:?}");
    }
}

/// A start that cannot work fails early and says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_finds_what_is_missing() {
    let Some(emulator) = emulator() else { return };
    let good = settings(&emulator.endpoint);
    make(&good).await;
    assert_eq!(clients(good.clone()).await.check().await, Ok(()));
    let code = async |change: &dyn Fn(&mut Settings)| {
        let mut settings = good.clone();
        change(&mut settings);
        clients(settings).await.check().await.unwrap_err().code()
    };
    assert_eq!(code(&|settings| settings.table = "other".to_owned()).await, "aws_table_missing");
    assert_eq!(code(&|settings| settings.region = Some("eu-west-1".to_owned())).await, "aws_table_missing");
    assert_eq!(code(&|settings| settings.bucket = "other-bucket".to_owned()).await, "aws_bucket_missing");
    assert_eq!(code(&|settings| settings.dead += "x").await, "aws_queue_missing");
    assert_eq!(code(&|settings| settings.endpoint = Some("http://127.0.0.1:1".to_owned())).await, "aws_unreachable");
    let bare = emulator::make_bare_table(&good).await;
    assert_eq!(code(&|settings| settings.table = bare.clone()).await, "aws_table_wrong");
    let no_region = Settings { region: None, ..good };
    let config = aws_config::SdkConfig::builder().build();
    assert!(matches!(Aws::with(&config, no_region), Err(Error::Region { .. })));
}

/// What a step costs: no transaction, and no question where the run was loaded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_is_two_writes_and_one_question() {
    let Some((proxy, aws)) = behind_proxy().await else { return };
    let store = aws.store();
    let log = begun(&store, 1).await;
    let run = log.run.id;
    let cold = aws.store();
    proxy.take_calls();
    cold.load(run).await.unwrap();
    let put = |item: Item| {
        let store = cold.clone();
        async move { store.put(run, &item, None).await.unwrap() }
    };
    put(sample::claim(2, 1, 9, sample::at(1_000))).await;
    let record = sample::step(&log, 1, 3, true);
    cold.commit(run, &record, None).await.unwrap();
    let calls = proxy.take_calls();
    let actions: Vec<&str> = calls.iter().map(|call| call.action.as_str()).collect();
    assert_eq!(actions, ["Query", "PutItem", "PutItem"]);
    let sent: usize = calls.iter().map(|call| call.bytes).sum();
    assert!(sent < 2 * record.bytes.len() + 2_000, "{sent} bytes for a record of {}", record.bytes.len());
}

/// Of a long run, only what came since is read again: what it costs does not grow with the run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_run_is_read_once() {
    let Some((proxy, aws)) = behind_proxy().await else { return };
    let (store, other) = (aws.store(), aws.store());
    let mut log = begun(&store, 1).await;
    let run = log.run.id;
    for _ in 0..60 {
        let record = sample::step(&log, 0, 3, false);
        other.commit(run, &record, None).await.unwrap();
        log.push(record);
    }
    let whole = store.load(run).await.unwrap().unwrap();
    assert_eq!(whole.log.records, log.records);
    let own = sample::step(&log, 0, 3, false);
    store.commit(run, &own, None).await.unwrap();
    log.push(own);
    for text in ["one", "two"] {
        let theirs = sample::step(&log, 0, 3, false);
        other.commit(run, &theirs, None).await.unwrap();
        other.put(run, &sample::message(text, text), Some(sample::at(77))).await.unwrap();
        log.push(theirs);
        proxy.take_calls();
        proxy.take_answered();
        let again = store.load(run).await.unwrap().unwrap();
        assert_eq!((&again.log.records, &again.log.run), (&log.records, &log.run));
        assert_eq!(again.due.unwrap().at, sample::at(77));
        assert_eq!(again.log.items.len(), if text == "one" { 1 } else { 2 });
        let answered = proxy.take_answered();
        assert!(answered < 8 << 10, "{answered} bytes were read again");
        let calls: Vec<String> = proxy.take_calls().into_iter().map(|call| call.action).collect();
        assert_eq!(calls, ["GetItem", "Query"], "first its own row, then what can follow from it");
    }
    let last = sample::answer(&log);
    other.commit(run, &last, None).await.unwrap();
    log.push(last);
    for _ in 0..2 {
        assert_eq!(store.load(run).await.unwrap().unwrap().log.records, log.records);
    }
}

/// A run that ended is filed as ended, also if the write that does so failed: the next list mends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_mend_what_was_not_filed() {
    let Some((proxy, aws)) = behind_proxy().await else { return };
    let store = aws.store();
    let mut log = begun(&store, 1).await;
    proxy.plan(|call| if call.action == "UpdateItem" { Fault::failed() } else { Fault::None });
    let record = sample::answer(&log);
    assert_eq!(store.commit(log.run.id, &record, None).await.unwrap(), Commit::Stored);
    log.push(record);
    proxy.plan(|_| Fault::None);
    let done = RunFilter { status: Some("done".to_owned()), ..RunFilter::default() };
    for _ in 0..2 {
        assert_eq!(store.list(&done).await.unwrap().runs, [RunSummary::of(&log)]);
    }
    proxy.take_calls();
    store.list(&done).await.unwrap();
    assert!(proxy.take_calls().iter().all(|call| call.action == "Query"), "it was mended the first time");
}
