//! Cases forked at every record with a model that answers something else: no effect is repeated, and the fork ends.

use super::engine::Manner;
use super::format::Case;
use super::play::Play;
use super::{cases, runtime};
use errand_core::{CallState, Class, Decision, Due, RunId, RunLog, Status, replay};
use errand_engine::ForkOptions;
use std::collections::BTreeMap;

/// Cases with calls of every class and state, with sub-runs, crashes and faults among them.
const FORKED: [&str; 14] = [
    "approval_edited",
    "ask_user_late",
    "budget_usd_pause",
    "cancel_calls_out",
    "effectful",
    "effectful_crash_happened",
    "effectful_timeout",
    "fork_points",
    "fork_subrun",
    "malformed_corrected",
    "model_unavailable",
    "subrun",
    "subrun_cancelled_deep",
    "tools_parallel",
];

/// Says the same whatever it is asked.
const OTHER: &str = r#"
about = "another answer"
[[turn]]
id = "other"
say = "something else"
[[turn.next]]
goto = "other"
"#;

/// Most acts until a fork must have ended.
const ACTS_MAX: u32 = 40;

#[test]
fn a_fork_at_any_record_repeats_no_effect_and_ends() {
    let mut forks = 0;
    for mut case in cases().into_iter().filter(|case| FORKED.contains(&case.name.as_str())) {
        case.models.insert("another".to_owned(), OTHER.to_owned());
        forks += runtime().block_on(fork_everywhere(&case));
    }
    assert!(forks > 60, "{forks}");
}

/// Forks the case's first run, as it is when its script is over, at each of its records.
async fn fork_everywhere(case: &Case) -> u64 {
    let mut play = Play::begin(case, Manner::Plain).await;
    for line in &case.script {
        play.act(line).await;
    }
    let origin = RunId::new(errand_core::Timestamp::from_millis(super::stage::BEGIN), 1);
    let last = play.engine.load(origin).await.run.number;
    for at in 1..=last {
        let before = effects(&play);
        let message = (at == last).then(|| "And now?".to_owned());
        let options = ForkOptions { model: Some(play.model("another")), budget: None, message };
        let what = format!("{} forked at {at}", case.name);
        let run = match play.fork(origin, at, options).await {
            Ok(run) => run,
            // Of a run that was stopped with calls under way there is nothing to go on from.
            Err(error) => {
                let abandoned = !play.engine.load(origin).await.run.head.due.calls().is_empty();
                assert!(at == last && abandoned, "{what}: {error}");
                continue;
            }
        };
        let log = end(&mut play, run, &what).await;
        for (key, times) in effects(&play) {
            assert!(times <= 1, "{what}: {key} was executed {times} times");
            // What the origin had sent is not sent for the fork; what neither had is sent for one of them.
            assert!(!before.contains_key(&key) || before[&key] == times, "{what}: {key} was executed again");
        }
        let history = play.engine.driver().history(&log).await.unwrap();
        replay(&log, &history).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    last
}

/// How often effectful calls were executed, by idempotency key.
fn effects(play: &Play<'_>) -> BTreeMap<String, u32> {
    let executed = play.engine.stage.tools.executed();
    let effectful = executed.into_iter().filter(|(_, one)| one.class == Class::Effectful);
    effectful.map(|(key, one)| (key, one.times)).collect()
}

/// Does what people and time must do until the fork has ended.
async fn end(play: &mut Play<'_>, run: RunId, what: &str) -> RunLog {
    for _ in 0..ACTS_MAX {
        play.engine.work().await;
        let log = play.engine.load(run).await;
        if log.run.head.status.is_ended() {
            assert_ne!(log.run.head.status.code(), "failed", "{what}: {:?}", log.run.head.status);
            if log.run.head.status == Status::Done {
                assert_eq!(log.answer(), Some("something else"), "{what}");
            }
            return log;
        }
        help(play, &log).await;
        play.engine.wait(60_000).await;
    }
    panic!("{what} never ends");
}

async fn help(play: &Play<'_>, log: &RunLog) {
    let (driver, run) = (play.engine.driver(), log.run.id);
    let Due::Calls { calls } = &log.run.head.due else { return };
    for call in calls {
        match call.state {
            CallState::Approval => driver.decide(run, call.id, Decision::Approve, "ann").await.unwrap(),
            CallState::Person { .. } => driver.answer(run, call.id, "yes").await.unwrap(),
            CallState::Unknown => {
                let decision = Decision::NotHappened { note: String::new() };
                driver.decide(run, call.id, decision, "ann").await.unwrap();
            }
            _ => {}
        }
    }
}
