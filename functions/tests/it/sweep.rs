//! The function `sweep`.

use crate::world::{Received, STEP, TIMEOUT, World, event, failures};
use errand_core::Status;
use serde_json::json;

const SWEEP: &str = env!("CARGO_BIN_EXE_sweep");

#[tokio::test]
async fn a_run_whose_message_was_lost_goes_on() {
    let Some(world) = World::new().await else { return };
    let run = world.begin("scripted/sum", "add").await;
    let lost = world.steps(1).await;
    world.settle(&lost, &json!({ "batchItemFailures": [] })).await;
    let mut sweep = world.function(SWEEP).await;
    let schedule = json!({ "version": "0", "detail-type": "Scheduled Event", "source": "aws.events", "detail": {} });
    let told = sweep.invoke(schedule.clone(), TIMEOUT).await;
    assert_eq!((told.what.as_str(), &told.body), ("response", &json!({ "overdue": 1, "buried": 0 })));
    let told = sweep.invoke(schedule, TIMEOUT).await;
    assert_eq!(told.body, json!({ "overdue": 0, "buried": 0 }), "it is looked after once");
    let mut step = world.function(STEP).await;
    world.carry_on(&mut step, &[run]).await;
    assert_eq!(world.log(run).await.answer(), Some("It is 42."));
}

#[tokio::test]
async fn a_dead_letter_fails_its_run_with_the_reason() {
    let Some(world) = World::new().await else { return };
    let run = world.begin("scripted/sum", "add").await;
    let mut letters = world.steps(1).await;
    let garbage = Received { id: "garbage".to_owned(), body: "not JSON".to_owned(), ..letters[0].clone() };
    letters.push(garbage);
    let mut sweep = world.function(SWEEP).await;
    let told = sweep.invoke(event(&letters), TIMEOUT).await;
    assert_eq!(failures(&told.body), ["garbage"], "what nobody can use stays for people");
    let log = world.log(run).await;
    assert!(
        matches!(&log.run.head.status, Status::Failed { code, .. } if code == "step_failed"),
        "{:?}",
        log.run.head.status
    );
    let told = sweep.invoke(event(&letters[..1]), TIMEOUT).await;
    assert_eq!(failures(&told.body), [""; 0]);
    assert_eq!(world.log(run).await.records.len(), log.records.len(), "once");
}
