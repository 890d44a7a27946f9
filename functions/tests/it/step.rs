//! The function `step`.

use crate::emulator::emulator;
use crate::lambda::Function;
use crate::proxy::{Fault, Proxy};
use crate::world::{Received, STEP, TIMEOUT, World, body, event, failures, some_run};
use errand_core::{CallId, Outcome, RunLog};
use errand_engine::ports::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::Notify;

#[tokio::test]
async fn runs_go_from_their_first_message_to_their_answer() {
    let Some(world) = World::new().await else { return };
    let mut function = world.function(STEP).await;
    let runs = [world.begin("scripted/sum", "add").await, world.begin("scripted/sum", "add").await];
    world.carry_on(&mut function, &runs).await;
    for run in runs {
        let log = world.log(run).await;
        assert_eq!(log.answer(), Some("It is 42."));
        assert_eq!(log.records.len(), 3, "the beginning, the call, the answer");
    }
}

#[tokio::test]
async fn calls_are_carried_out_here_unless_they_need_a_box() {
    let Some(world) = World::new().await else { return };
    let mut function = world.function(STEP).await;
    let run = world.begin("scripted/out", "look").await;
    let waits_for_box = |log: &RunLog| log.run.head.due.calls().iter().any(|call| log.is_sandboxed(call.id));
    world.carry_until(&mut function, run, waits_for_box).await;
    let log = world.log(run).await;
    let fetched = &log.result(CallId { record: 2, index: 0 }).unwrap().outcome;
    assert!(matches!(fetched, Outcome::Error { code, .. } if code == "address_refused"), "{fetched:?}");
    let for_runners = world.receive(&world.settings().calls).await;
    assert_eq!(for_runners.len(), 1);
    // One that has come here by mistake is sent where it belongs, and nothing is written down.
    let told = function.invoke(event(&for_runners), TIMEOUT).await;
    assert_eq!(failures(&told.body), [""; 0]);
    let sent_on = world.receive(&world.settings().calls).await;
    assert_eq!(sent_on[0].body, for_runners[0].body);
    assert_eq!(world.log(run).await.items.len(), log.items.len());
}

#[tokio::test]
async fn a_message_that_comes_twice_is_worked_on_once() {
    let Some(world) = World::new().await else { return };
    let mut function = world.function(STEP).await;
    let run = world.begin("scripted/sum", "add").await;
    let first = world.steps(1).await;
    // At the same time, and once more afterwards.
    let twice = [first[0].clone(), Received { id: "again".to_owned(), ..first[0].clone() }];
    function.invoke(event(&twice), TIMEOUT).await;
    let told = function.invoke(event(&first), TIMEOUT).await;
    assert_eq!(failures(&told.body), [""; 0]);
    world.settle(&first, &told.body).await;
    let log = world.log(run).await;
    assert_eq!((log.records.len(), log.last().attempt), (2, 1), "one record, by the first attempt");
    world.carry_on(&mut function, &[run]).await;
    assert_eq!(world.log(run).await.answer(), Some("It is 42."));
}

#[tokio::test]
async fn killed_between_the_commit_and_the_reply() {
    let Some(world) = World::new().await else { return };
    let proxy = Proxy::start(&emulator().unwrap().endpoint).await;
    let sends = Arc::new(Notify::new());
    let about = Arc::clone(&sends);
    // What is sent for the next record comes after the commit. It never leaves.
    proxy.plan(move |call| match call.action.as_str() {
        "SendMessageBatch" => {
            about.notify_one();
            Fault::Cut
        }
        _ => Fault::None,
    });
    let run = world.begin("scripted/sum", "add").await;
    let first = world.steps(1).await;
    let mut settings = world.settings().clone();
    settings.endpoint = Some(proxy.endpoint.clone());
    let doomed = Function::start(STEP, &settings, world.folder.path(), &[]).await;
    doomed.begin(event(&first), TIMEOUT);
    sends.notified().await;
    doomed.kill().await;
    let log = world.log(run).await;
    assert_eq!(log.records.len(), 2, "the record was made");
    // Nobody was told: the message comes again, to another process.
    let mut function = world.function(STEP).await;
    let told = function.invoke(event(&first), TIMEOUT).await;
    assert_eq!(failures(&told.body), [""; 0]);
    world.settle(&first, &told.body).await;
    world.carry_on(&mut function, &[run]).await;
    let log = world.log(run).await;
    assert_eq!((log.answer(), log.records.len()), (Some("It is 42."), 3), "nothing is lost, nothing done twice");
    assert!(log.records.iter().all(|sealed| sealed.record.attempt <= 1));
}

#[tokio::test]
async fn killed_once_it_replied_and_nobody_heard_it() {
    let Some(world) = World::new().await else { return };
    let run = world.begin("scripted/sum", "add").await;
    let first = world.steps(1).await;
    let mut doomed = world.function(STEP).await;
    doomed.invoke(event(&first), TIMEOUT).await;
    doomed.kill().await;
    let mut function = world.function(STEP).await;
    let told = function.invoke(event(&first), TIMEOUT).await;
    world.settle(&first, &told.body).await;
    world.carry_on(&mut function, &[run]).await;
    assert_eq!(world.log(run).await.records.len(), 3);
}

#[tokio::test]
async fn what_does_not_fit_before_the_deadline_is_not_begun() {
    let Some(world) = World::new().await else { return };
    let mut function = world.function(STEP).await;
    let run = world.begin("scripted/sum", "add").await;
    let first = world.steps(1).await;
    // The model may take four minutes.
    let told = function.invoke(event(&first), Duration::from_secs(200)).await;
    assert_eq!(failures(&told.body), [first[0].id.as_str()]);
    assert_eq!(world.log(run).await.records.len(), 1);
    assert!(world.log(run).await.items.is_empty(), "nothing is claimed");
    // A deadline that is over already.
    let told = function.invoke(event(&first), Duration::ZERO).await;
    assert_eq!(failures(&told.body), [first[0].id.as_str()]);
    // It was put off for a second, not for as long as it was hidden: it comes again by itself.
    world.carry_on(&mut function, &[run]).await;
    assert_eq!(world.log(run).await.answer(), Some("It is 42."));
}

#[tokio::test]
async fn the_answer_comes_before_the_deadline_though_aws_says_nothing() {
    let Some(world) = World::new().await else { return };
    // Connections are made, and nothing is ever said.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = world.settings().clone();
    settings.endpoint = Some(format!("http://{}", silent.local_addr().unwrap()));
    let mut function = Function::start(STEP, &settings, world.folder.path(), &[]).await;
    world.begin("scripted/sum", "add").await;
    let first = world.steps(1).await;
    let (began, time) = (Instant::now(), Duration::from_secs(6));
    let told = function.invoke(event(&first), time).await;
    assert_eq!(failures(&told.body), [first[0].id.as_str()]);
    assert!(began.elapsed() < time, "{:?}", began.elapsed());
}

#[tokio::test]
async fn each_message_fails_for_itself() {
    let Some(world) = World::new().await else { return };
    let mut function = world.function(STEP).await;
    let run = world.begin("scripted/sum", "add").await;
    let unknown = Message::Step { run: some_run(), record: 2, not_before: None };
    world.send(&body(&unknown)).await;
    world.send(r#"{"v":2,"body":{"message":"of the future"}}"#).await;
    world.send("not JSON").await;
    let messages = world.steps(4).await;
    let told = function.invoke(event(&messages), TIMEOUT).await;
    world.settle(&messages, &told.body).await;
    let mut failed: Vec<_> = messages.iter().filter(|message| failures(&told.body).contains(&message.id)).collect();
    failed.sort_by_key(|message| message.body.len());
    let bodies: Vec<_> = failed.iter().map(|message| message.body.as_str()).collect();
    assert_eq!(bodies, [r#"{"v":2,"body":{"message":"of the future"}}"#, body(&unknown).as_str()]);
    assert_eq!(world.log(run).await.records.len(), 2, "the others do not keep it from going on");
    let dead = world.receive(&world.settings().dead).await;
    assert_eq!(dead.iter().map(|message| message.body.as_str()).collect::<Vec<_>>(), ["not JSON"]);
}

#[tokio::test]
async fn what_is_no_batch_of_messages_fails_as_a_whole() {
    let Some(world) = World::new().await else { return };
    let mut function = world.function(STEP).await;
    let told = function.invoke(serde_json::json!({ "source": "aws.events" }), TIMEOUT).await;
    assert_eq!(told.what, "error", "{}", told.body);
    // It goes on with what comes next; what a message lacks is its own affair.
    let told = function.invoke(serde_json::json!({ "Records": [] }), TIMEOUT).await;
    assert_eq!((told.what.as_str(), failures(&told.body).len()), ("response", 0));
    let told = function.invoke(serde_json::json!({ "Records": [{ "messageId": "m" }] }), TIMEOUT).await;
    assert_eq!((told.what.as_str(), failures(&told.body).len()), ("response", 0), "put aside");
}

#[tokio::test]
async fn several_at_a_time_where_lambda_says_so() {
    let Some(world) = World::new().await else { return };
    let proxy = Proxy::start(&emulator().unwrap().endpoint).await;
    let mut settings = world.settings().clone();
    settings.endpoint = Some(proxy.endpoint.clone());
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    // The first run's load is never answered; the second one's is.
    proxy.plan(move |call| match call.action.as_str() {
        "Query" if count.fetch_add(1, Ordering::SeqCst) == 0 => Fault::Stall,
        _ => Fault::None,
    });
    let mut function = Function::start(STEP, &settings, world.folder.path(), &[("AWS_LAMBDA_MAX_CONCURRENCY", "4")]).await;
    let runs = [world.begin("scripted/sum", "add").await, world.begin("scripted/sum", "add").await];
    let messages = world.steps(2).await;
    for message in &messages {
        function.begin(event(std::slice::from_ref(message)), TIMEOUT);
    }
    let told = function.told().await;
    assert_eq!(failures(&told.body), [""; 0]);
    let mut lengths = [0; 2];
    for (run, length) in runs.iter().zip(&mut lengths) {
        *length = world.log(*run).await.records.len();
    }
    lengths.sort_unstable();
    assert_eq!(lengths, [1, 2], "one went on while the other waits");
}
