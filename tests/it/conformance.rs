//! What every adapter of a port must do. Each function takes a factory and asks it for a fresh, empty adapter per check,
//! so that the laptop, AWS and the simulation cannot drift apart.
#![allow(clippy::unwrap_used, reason = "an adapter that fails ends the test")]

use errand_core::{
    Amount, Budget, CallId, Decision, Event, Finish, Hash, Input, Item, ItemBody, ItemKey, Limits, Making, ModelChoice,
    ModelReplied, ModelReply, Nonce, Observation, Outcome, Price, RequestedCall, RunConfig, RunId, RunLog, Sealed, Spent,
    Started, Timestamp, ToolDefinition, ToolSpec, Usage, Usd, UserMessage, Verdict, WhenExceeded,
};
use errand_engine::ports::{
    Assistants, Blobs, Commit, DueEntry, HEAD_BYTES_MAX, Heads, Inbox, Message, Put, Queue, RunFilter, Store,
};
use std::sync::Arc;

/// Runs, records and items to store: what they say does not matter, that they are right does.
pub mod sample {
    use super::*;

    /// A time, in milliseconds after a fixed moment of 2026.
    pub fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_790_000_000_000 + millis)
    }

    /// The run made as number `number`; later numbers are newer.
    pub fn run(number: u64) -> RunId {
        RunId::new(at(number), u128::from(number) << 32 | 7)
    }

    /// What a run starts with.
    pub fn started(task: &str) -> Started {
        let echo = ToolSpec {
            definition: ToolDefinition {
                name: "echo".to_owned(),
                description: "gives back its text".to_owned(),
                parameters: r#"{"type":"object"}"#.to_owned(),
            },
            class: errand_core::Class::Pure,
            executor: errand_core::Executor::Inline,
            approval: errand_core::Approval::Never,
            timeout_ms: 1_000,
            taint_out: Vec::new(),
            source: None,
            min_tier: None,
            egress: None,
        };
        let config = RunConfig {
            tenant: Default::default(),
            min_tier: None,
            fallbacks: Vec::new(),
            summarizers: Vec::new(),
            output: None,
            assistant: None,
            model: ModelChoice {
                image_tokens: 0,
                name: "scripted/sample".to_owned(),
                price: Some(Price::FREE),
                context_tokens: None,
                endpoint: None,
            },
            instructions: "Do what you are asked.".to_owned(),
            tools: vec![echo],
            limits: Limits::default(),
            budget: Budget {
                usd: Some(Usd::from_nanos(1_000_000_000)),
                tokens: None,
                steps: 10_000,
                active_ms: 3_600_000,
                when_exceeded: WhenExceeded::End,
            },
        };
        Started {
            images: Vec::new(),
            config,
            task: task.to_owned(),
            files: vec![],
            workspace: None,
            history: None,
            parent: None,
            withdrawn: None,
            given: Vec::new(),
            metadata: Default::default(),
            surface: None,
        }
    }

    /// The log of a run with record 1.
    pub fn log(run: RunId, time: Timestamp) -> RunLog {
        let making = Making { made_under: 0, attempt: 0, maker: Nonce(1) };
        RunLog::begin(run, started(&format!("the task of {run}")), time, making)
    }

    /// The record after the last one of `log`: a model turn with one quick tool call, made as `attempt` by `maker`.
    pub fn step(log: &RunLog, attempt: u32, maker: u64, books: bool) -> Sealed {
        let number = log.run.number + 1;
        let text = format!("{number:04}").repeat(64);
        let call = RequestedCall {
            id: format!("call_{number}"),
            name: "echo".to_owned(),
            arguments: format!("{{\"text\":\"{text}\"}}"),
        };
        let id = CallId { record: number, index: 0 };
        let replied = ModelReplied {
            misfit: None,
            request: Hash::of(&number.to_be_bytes()),
            reply: reply("", vec![call]),
            verdicts: vec![Verdict::Accepted { class: None, until: None, share: None }],
            observations: vec![Observation::free(id, Outcome::Ok { text })],
        };
        made(log, replied, attempt, maker, books)
    }

    /// The record after the last one of `log`: the final answer.
    pub fn answer(log: &RunLog) -> Sealed {
        let replied = ModelReplied {
            misfit: None,
            request: Hash::default(),
            reply: reply("done", vec![]),
            verdicts: vec![],
            observations: vec![],
        };
        made(log, replied, 0, 2, false)
    }

    fn reply(text: &str, calls: Vec<RequestedCall>) -> ModelReply {
        ModelReply {
            opaque: None,
            model: "sample".to_owned(),
            text: text.to_owned(),
            reasoning: String::new(),
            calls,
            finish: Finish::Stop,
            usage: Some(Usage { input_tokens: 100, cached_input_tokens: 0, output_tokens: 10, reasoning_tokens: 0 }),
        }
    }

    fn made(log: &RunLog, replied: ModelReplied, attempt: u32, maker: u64, books: bool) -> Sealed {
        let number = log.run.number + 1;
        let booked = errand_core::Booked {
            record: number,
            attempt,
            spent: Spent { amount: Amount { usd: Usd::ZERO, tokens: 110 }, confirmed: true },
        };
        let input = Input {
            event: Event::ModelReplied(Box::new(replied)),
            books: if books { vec![booked] } else { vec![] },
            at: log.run.at.plus(10),
            began: None,
        };
        let making = Making { made_under: number, attempt, maker: Nonce(maker) };
        log.make(input, vec![], making).expect("a model turn is due in every sample")
    }

    /// A claim that ends at `expires`.
    pub fn claim(record: u64, attempt: u32, by: u64, expires: Timestamp) -> Item {
        let bound = Amount { usd: Usd::from_nanos(500), tokens: 50 };
        Item { key: ItemKey::Claim { record, attempt }, at: at(1), body: ItemBody::Claim { by: Nonce(by), bound, expires } }
    }

    /// The item that voids a claim.
    pub fn void(record: u64, attempt: u32) -> Item {
        Item { key: ItemKey::Void { record, attempt }, at: at(1), body: ItemBody::Void }
    }

    /// What a claimed attempt spent for nothing.
    pub fn waste(record: u64, attempt: u32) -> Item {
        let spent = Spent { amount: Amount { usd: Usd::from_nanos(7), tokens: 7 }, confirmed: true };
        Item { key: ItemKey::Waste { record, attempt }, at: at(1), body: ItemBody::Waste { spent } }
    }

    /// Something a person said.
    pub fn message(id: &str, text: &str) -> Item {
        let message = UserMessage { id: id.to_owned(), text: text.to_owned() };
        Item { key: ItemKey::Message { id: id.to_owned() }, at: at(1), body: ItemBody::Message { message } }
    }
}

/// Everything a store must do.
pub async fn store(make: impl AsyncFn() -> Arc<dyn Store>) {
    begins_once(&*make().await).await;
    keeps_what_it_is_given(&*make().await).await;
    one_of_many_wins_a_record(&make().await).await;
    one_of_many_wins_an_item(&make().await).await;
    a_conflict_hurts_nobody_else(&*make().await).await;
    keeps_every_kind_of_item(&*make().await).await;
    refuses_a_gap(&*make().await).await;
    moves_due_entries_by_version(&*make().await).await;
    wakes_with_the_write(&*make().await).await;
    finds_the_most_overdue_first(&*make().await).await;
    lists_newest_first_in_pages(&*make().await).await;
    lists_a_tenants_own(&*make().await).await;
    begins_a_fork_with_all_its_records(&*make().await).await;
}

async fn begun(store: &dyn Store, number: u64) -> RunLog {
    let log = sample::log(sample::run(number), sample::at(number));
    let begun = store.begin(log.run.id, &log.records, sample::at(number)).await.unwrap();
    assert_eq!(begun, Commit::Stored);
    log
}

async fn due(store: &dyn Store, run: RunId) -> Option<DueEntry> {
    store.load(run).await.unwrap().expect("the run was begun").due
}

/// A run is begun once, and a run that is not there is not there.
pub async fn begins_once(store: &dyn Store) {
    let log = begun(store, 1).await;
    let run = log.run.id;
    let again = store.begin(run, &log.records, sample::at(99)).await.unwrap();
    assert_eq!(again, Commit::Taken(Arc::clone(&log.records[0].record)));
    assert_eq!(due(store, run).await.unwrap().at, sample::at(1), "a refused begin must not touch the due index");
    assert!(store.load(sample::run(2)).await.unwrap().is_none());
    assert!(store.last(sample::run(2)).await.unwrap().is_none());
    assert!(store.item(sample::run(2), &ItemKey::Claim { record: 2, attempt: 1 }).await.unwrap().is_none());
}

/// Records come back as they were sealed.
pub async fn keeps_what_it_is_given(store: &dyn Store) {
    let mut log = begun(store, 1).await;
    for _ in 0..5 {
        let record = sample::step(&log, 0, 3, false);
        assert_eq!(store.commit(log.run.id, &record, None).await.unwrap(), Commit::Stored);
        log.push(record);
        let loaded = store.load(log.run.id).await.unwrap().unwrap();
        assert_eq!(loaded.log.records, log.records);
        assert_eq!(loaded.log.run, log.run);
        assert_eq!(store.last(log.run.id).await.unwrap().unwrap(), log.records.last().unwrap().record);
    }
}

/// Of many writers of one record exactly one wins, and the others are shown its record.
pub async fn one_of_many_wins_a_record(store: &Arc<dyn Store>) {
    let log = begun(&**store, 1).await;
    let run = log.run.id;
    let tries = (0..64).map(|maker| {
        let (store, record) = (Arc::clone(store), sample::step(&log, 0, 100 + maker, false));
        async move { (record.record.maker, store.commit(run, &record, None).await.unwrap()) }
    });
    let outcomes = futures::future::join_all(tries).await;
    let winners: Vec<Nonce> =
        outcomes.iter().filter(|(_, commit)| *commit == Commit::Stored).map(|(maker, _)| *maker).collect();
    assert_eq!(winners.len(), 1, "exactly one of 64 writers of a record may win");
    for (_, commit) in &outcomes {
        if let Commit::Taken(record) = commit {
            assert_eq!(record.maker, winners[0], "losers must be shown the winner");
        }
    }
    assert_eq!(store.load(run).await.unwrap().unwrap().log.last().maker, winners[0]);
}

/// Of many writers of one item exactly one wins, and the others are shown its item.
pub async fn one_of_many_wins_an_item(store: &Arc<dyn Store>) {
    let log = begun(&**store, 1).await;
    let run = log.run.id;
    for attempt in 1..4 {
        let tries = (0..64).map(|by| {
            let store = Arc::clone(store);
            async move {
                let claim = sample::claim(2, attempt, by, sample::at(1_000));
                (claim.clone(), store.put(run, &claim, None).await.unwrap())
            }
        });
        let outcomes = futures::future::join_all(tries).await;
        let winners: Vec<&Item> = outcomes.iter().filter(|(_, put)| *put == Put::Stored).map(|(item, _)| item).collect();
        assert_eq!(winners.len(), 1, "exactly one of 64 writers of an item may win");
        assert!(outcomes.iter().all(|(_, put)| *put == Put::Stored || *put == Put::Taken(winners[0].clone())));
        assert_eq!(store.item(run, &winners[0].key).await.unwrap().as_ref(), Some(winners[0]));
    }
    assert_eq!(store.load(run).await.unwrap().unwrap().log.items.len(), 3);
}

/// A write that is refused does not take those of other runs with it.
pub async fn a_conflict_hurts_nobody_else(store: &dyn Store) {
    let logs = [begun(store, 1).await, begun(store, 2).await, begun(store, 3).await];
    let lost = sample::step(&logs[0], 0, 4, false);
    assert_eq!(store.commit(logs[0].run.id, &lost, None).await.unwrap(), Commit::Stored);
    let (first, second) = (sample::step(&logs[1], 0, 5, false), sample::step(&logs[2], 0, 6, false));
    let again = sample::step(&logs[0], 0, 7, false);
    let outcomes = futures::future::join_all([
        store.commit(logs[1].run.id, &first, None),
        store.commit(logs[0].run.id, &again, None),
        store.commit(logs[2].run.id, &second, None),
    ])
    .await;
    let outcomes: Vec<Commit> = outcomes.into_iter().map(|outcome| outcome.unwrap()).collect();
    assert_eq!(outcomes, [Commit::Stored, Commit::Taken(lost.record), Commit::Stored]);
}

/// Items of every kind come back as they were written, once.
pub async fn keeps_every_kind_of_item(store: &dyn Store) {
    let log = begun(store, 1).await;
    let run = log.run.id;
    let call = CallId { record: 2, index: 0 };
    let item = |key, body| Item { key, at: sample::at(5), body };
    let decision = || ItemBody::Decision { decision: Decision::Approve, by: "me".to_owned() };
    let items = [
        sample::claim(2, 1, 9, sample::at(1_000)),
        sample::waste(2, 1),
        sample::claim(2, 2, 9, sample::at(1_000)),
        sample::void(2, 2),
        item(ItemKey::Fence { call, attempt: 1 }, ItemBody::Fence { by: Nonce(9), expires: sample::at(1_000) }),
        item(
            ItemKey::Result { call },
            ItemBody::Result { observation: Observation::free(call, Outcome::Ok { text: "é\u{0}\n\"".to_owned() }) },
        ),
        item(ItemKey::Approval { call }, decision()),
        item(ItemKey::Resolution { call }, decision()),
        sample::message("a/b %_~", "hello"),
        item(ItemKey::Raise { id: "1".to_owned() }, ItemBody::Raise { by: Default::default(), who: "me".to_owned() }),
    ];
    for item in &items {
        assert_eq!(store.put(run, item, None).await.unwrap(), Put::Stored);
        assert_eq!(store.put(run, item, None).await.unwrap(), Put::Taken(item.clone()));
        assert_eq!(store.item(run, &item.key).await.unwrap().as_ref(), Some(item));
    }
    let loaded = store.load(run).await.unwrap().unwrap().log.items;
    assert_eq!(loaded.into_values().collect::<Vec<_>>(), items_by_key(&items));
}

fn items_by_key(items: &[Item]) -> Vec<Item> {
    let mut sorted = items.to_vec();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    sorted
}

/// A record that does not follow the last one is refused.
pub async fn refuses_a_gap(store: &dyn Store) {
    let mut log = begun(store, 1).await;
    log.push(sample::step(&log, 0, 3, false));
    let third = sample::step(&log, 0, 3, false);
    assert!(store.commit(log.run.id, &third, None).await.is_err(), "record 3 may not follow record 1");
    assert_eq!(store.load(log.run.id).await.unwrap().unwrap().log.records.len(), 1);
}

/// An entry in the due index is moved only as it was seen.
pub async fn moves_due_entries_by_version(store: &dyn Store) {
    let run = begun(store, 1).await.run.id;
    let first = due(store, run).await;
    assert!(first.is_some());
    assert!(!store.move_due(run, None, Some(sample::at(5))).await.unwrap(), "the entry is there");
    assert!(store.move_due(run, first, Some(sample::at(5))).await.unwrap());
    assert!(!store.move_due(run, first, Some(sample::at(6))).await.unwrap(), "the entry has moved since");
    let second = due(store, run).await;
    assert_eq!(second.map(|entry| entry.at), Some(sample::at(5)));
    assert!(store.move_due(run, second, None).await.unwrap());
    assert_eq!(due(store, run).await, None);
    assert!(!store.move_due(run, second, Some(sample::at(6))).await.unwrap(), "the entry is gone");
    assert!(store.move_due(run, None, Some(sample::at(5))).await.unwrap());
    let third = due(store, run).await;
    let versions = [first, second, third].map(|entry| entry.expect("an entry").version);
    assert!(versions[0] < versions[1] && versions[1] < versions[2], "versions only grow: {versions:?}");
    let racers = (0..16).map(|millis| store.move_due(run, third, Some(sample::at(millis))));
    let moved = futures::future::join_all(racers).await.into_iter().filter(|moved| *moved.as_ref().unwrap()).count();
    assert_eq!(moved, 1, "one of many moves wins");
}

/// A write wakes its run, a refused one does not.
pub async fn wakes_with_the_write(store: &dyn Store) {
    let log = begun(store, 1).await;
    let run = log.run.id;
    assert!(store.move_due(run, due(store, run).await, None).await.unwrap());
    assert!(store.overdue(sample::at(100), 10).await.unwrap().is_empty());
    let message = sample::message("1", "hello");
    store.put(run, &message, Some(sample::at(50))).await.unwrap();
    assert_eq!(due(store, run).await.unwrap().at, sample::at(50));
    store.put(run, &message, Some(sample::at(60))).await.unwrap();
    assert_eq!(due(store, run).await.unwrap().at, sample::at(50), "a refused put must not wake");
    let record = sample::step(&log, 0, 3, false);
    store.commit(run, &record, Some(sample::at(70))).await.unwrap();
    assert_eq!(due(store, run).await.unwrap().at, sample::at(70));
    store.commit(run, &record, Some(sample::at(80))).await.unwrap();
    assert_eq!(due(store, run).await.unwrap().at, sample::at(70), "a refused commit must not wake");
}

/// Overdue runs come in the order in which they were due.
pub async fn finds_the_most_overdue_first(store: &dyn Store) {
    for (number, due) in [(1, 30), (2, 10), (3, 20), (4, 40)] {
        let run = begun(store, number).await.run.id;
        let entry = self::due(store, run).await;
        assert!(store.move_due(run, entry, Some(sample::at(due))).await.unwrap());
    }
    assert_eq!(store.overdue(sample::at(9), 10).await.unwrap(), []);
    assert_eq!(store.overdue(sample::at(30), 10).await.unwrap(), [2, 3, 1].map(sample::run));
    assert_eq!(store.overdue(sample::at(99), 2).await.unwrap(), [2, 3].map(sample::run));
}

/// Runs are listed newest first, in pages, by status.
pub async fn lists_newest_first_in_pages(store: &dyn Store) {
    let mut logs = Vec::new();
    for number in 1..=5 {
        logs.push(begun(store, number).await);
    }
    for log in &mut logs[1..3] {
        let record = sample::answer(log);
        store.commit(log.run.id, &record, None).await.unwrap();
        log.push(record);
    }
    let all = store.list(&RunFilter::default()).await.unwrap();
    let expected: Vec<_> = logs.iter().rev().map(errand_engine::ports::RunSummary::of).collect();
    assert_eq!(all.runs, expected);
    assert!(!all.has_more);
    let filter = |before: Option<u64>, limit| RunFilter { before: before.map(sample::run), limit, ..RunFilter::default() };
    let first = store.list(&filter(None, 2)).await.unwrap();
    assert_eq!((first.runs.as_slice(), first.has_more), (&expected[..2], true));
    let second = store.list(&filter(Some(4), 3)).await.unwrap();
    assert_eq!((second.runs.as_slice(), second.has_more), (&expected[2..], false));
    let done = RunFilter { status: Some("done".to_owned()), limit: 1, ..RunFilter::default() };
    let done = store.list(&done).await.unwrap();
    assert_eq!((done.runs.as_slice(), done.has_more), (&expected[2..3], true));
}

/// A list shows the runs of one tenant, however it is filtered, and they stay its own when they end.
pub async fn lists_a_tenants_own(store: &dyn Store) {
    let tenants: [errand_core::TenantId; 3] = ["a", "b", "a-b"].map(|tenant| tenant.parse().unwrap());
    let mut logs = Vec::new();
    for number in 1..=6u64 {
        let mut started = sample::started("whose?");
        started.config.tenant = tenants[number as usize % 3].clone();
        let (run, at) = (sample::run(number), sample::at(number));
        let log = RunLog::begin(run, started, at, Making { made_under: 0, attempt: 0, maker: Nonce(number) });
        assert_eq!(store.begin(run, &log.records, at).await.unwrap(), Commit::Stored);
        logs.push(log);
    }
    for log in &mut logs[..3] {
        let record = sample::answer(log);
        assert_eq!(store.commit(log.run.id, &record, None).await.unwrap(), Commit::Stored);
        log.push(record);
    }
    for tenant in &tenants {
        let of = |status: Option<&str>, before: Option<u64>| RunFilter {
            tenant: tenant.clone(),
            status: status.map(str::to_owned),
            before: before.map(sample::run),
            limit: 1,
        };
        let own: Vec<_> = logs.iter().rev().filter(|log| log.run.config.tenant == *tenant).collect();
        let summaries: Vec<_> = own.iter().map(|log| errand_engine::ports::RunSummary::of(log)).collect();
        for _ in 0..2 {
            let first = store.list(&of(None, None)).await.unwrap();
            assert_eq!((first.runs.as_slice(), first.has_more), (&summaries[..1], true), "{tenant}");
            let second = store.list(&of(None, Some(4))).await.unwrap();
            assert_eq!((second.runs.as_slice(), second.has_more), (&summaries[1..], false), "{tenant}");
            let done = store.list(&of(Some("done"), None)).await.unwrap();
            assert_eq!((done.runs.as_slice(), done.has_more), (&summaries[1..], false), "{tenant}");
        }
    }
    assert_eq!(store.list(&RunFilter::default()).await.unwrap().runs, []);
}

/// A fork begins with the records it shares.
pub async fn begins_a_fork_with_all_its_records(store: &dyn Store) {
    let mut log = begun(store, 1).await;
    for _ in 0..3 {
        log.push(sample::step(&log, 0, 3, false));
    }
    let fork = log.prefix(sample::run(2), 3).unwrap();
    assert_eq!(store.begin(fork.run.id, &fork.records, sample::at(9)).await.unwrap(), Commit::Stored);
    let loaded = store.load(fork.run.id).await.unwrap().unwrap();
    assert_eq!(loaded.log.records, fork.records);
    assert_eq!(loaded.log.run, fork.run);
    let record = sample::step(&fork, 0, 3, false);
    assert_eq!(store.commit(fork.run.id, &record, None).await.unwrap(), Commit::Stored);
    assert_eq!(store.load(log.run.id).await.unwrap().unwrap().log.records.len(), 1, "the origin is as it was");
}

/// Everything a keeper of blobs must do.
pub async fn blobs(make: impl AsyncFn() -> Arc<dyn Blobs>) {
    let blobs = make().await;
    let large = vec![7u8; 3 << 20];
    for bytes in [&b""[..], b"a", &large] {
        assert_eq!(blobs.get(&Hash::of(bytes)).await.unwrap(), None);
        let hash = blobs.put(bytes).await.unwrap();
        assert_eq!(hash, Hash::of(bytes));
        assert_eq!(blobs.put(bytes).await.unwrap(), hash);
        assert_eq!(blobs.get(&hash).await.unwrap().as_deref(), Some(bytes));
    }
    let puts = (0..16).map(|_| blobs.put(b"the same from many"));
    assert!(futures::future::join_all(puts).await.into_iter().all(|hash| hash.unwrap() == Hash::of(b"the same from many")));
}

/// A queue with its inboxes for steps and calls.
pub type Queues = (Arc<dyn Queue>, Arc<dyn Inbox>, Arc<dyn Inbox>);

/// What heads must do.
pub async fn heads(make: impl AsyncFn() -> Arc<dyn Heads>) {
    let heads = make().await;
    assert_eq!(heads.read("s").await.unwrap(), None);
    assert!(!heads.replace("s", Some(b"something"), b"1").await.unwrap(), "there is nothing yet");
    assert!(heads.replace("s", None, b"1").await.unwrap());
    assert!(!heads.replace("s", None, b"2").await.unwrap(), "there is something by now");
    assert!(!heads.replace("s", Some(b"0"), b"2").await.unwrap());
    assert_eq!(heads.read("s").await.unwrap().unwrap(), b"1");
    assert!(heads.replace("s", Some(b"1"), b"2").await.unwrap());
    assert_eq!((heads.read("s").await.unwrap().unwrap(), heads.read("other").await.unwrap()), (b"2".to_vec(), None));
    for name in ["", "..", ".lock", "a/b", "../s", "a.", "a.b.c", "a..b", "a.b/c", &"x".repeat(65)] {
        assert!(heads.replace(name, None, b"x").await.is_err(), "{name:?} is no name");
    }
    assert!(heads.replace("large", None, &[7; HEAD_BYTES_MAX + 1]).await.is_err());
    assert!(heads.replace("large", None, &[7; HEAD_BYTES_MAX]).await.unwrap());
    assert_eq!(heads.read("large").await.unwrap().unwrap().len(), HEAD_BYTES_MAX);
    listed(&*heads).await;
    // Of all who believe that the head is as they know it, one is right.
    let racing = (0..32u8).map(|number| {
        let heads = heads.clone();
        tokio::spawn(async move { heads.replace("s", Some(b"2"), &[number; 1000]).await.unwrap() })
    });
    let won = futures::future::join_all(racing.collect::<Vec<_>>()).await;
    let won: Vec<usize> = won.into_iter().enumerate().filter(|(_, won)| *won.as_ref().unwrap()).map(|(n, _)| n).collect();
    assert_eq!(won.len(), 1, "{won:?}");
    assert_eq!(heads.read("s").await.unwrap().unwrap(), [won[0] as u8; 1000]);
}

async fn listed(heads: &dyn Heads) {
    assert_eq!(heads.list("runner", None, 10).await.unwrap(), []);
    for name in ["runner.c", "runner.a", "runners.x", "runner", "session.a", "runner.b-1"] {
        assert!(heads.replace(name, None, name.as_bytes()).await.unwrap());
    }
    let named = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), name.as_bytes().to_vec())).collect::<Vec<_>>();
    assert_eq!(heads.list("runner", None, 10).await.unwrap(), named(&["runner.a", "runner.b-1", "runner.c"]));
    assert_eq!(heads.list("runner", None, 2).await.unwrap(), named(&["runner.a", "runner.b-1"]));
    assert!(!heads.remove("runner.b-1", b"other").await.unwrap(), "it is not as it was said to be");
    assert!(heads.remove("runner.b-1", b"runner.b-1").await.unwrap());
    assert!(!heads.remove("runner.b-1", b"runner.b-1").await.unwrap(), "it is gone");
    assert_eq!(heads.read("runner.b-1").await.unwrap(), None);
    assert_eq!(heads.list("runner", Some("runner.b-1"), 2).await.unwrap(), named(&["runner.c"]));
    assert!(heads.replace("runner.b-1", None, b"again").await.unwrap(), "what is gone can be made anew");
    assert!(heads.list("..", None, 1).await.is_err());
}

/// What every place for assistants must do.
pub async fn assistants(make: impl AsyncFn() -> Arc<dyn Assistants>) {
    let kept = make().await;
    assert_eq!((kept.newest("clerk").await.unwrap(), kept.get("clerk", 1).await.unwrap()), (0, None));
    assert!(kept.put("clerk", 1, "one").await.unwrap());
    assert!(!kept.put("clerk", 1, "another").await.unwrap(), "a version was written over");
    assert_eq!(kept.get("clerk", 1).await.unwrap().as_deref(), Some("one"));
    assert!(kept.put("clerk", 2, "").await.unwrap() && kept.put("baker", 1, "b\u{fc}cher").await.unwrap());
    assert_eq!(kept.newest("clerk").await.unwrap(), 2);
    assert_eq!(kept.names().await.unwrap(), ["baker", "clerk"]);
    assert_eq!(kept.get("baker", 1).await.unwrap().as_deref(), Some("b\u{fc}cher"));
    for name in ["", "..", "../clerk", "a/b", "a.b", "a\0b", &"a".repeat(65)] {
        assert!(!kept.put(name, 1, "x").await.unwrap_or(false), "{name:?} was taken as a name");
        assert_eq!(kept.get(name, 1).await.unwrap_or(None), None, "{name:?}");
    }
    let racing = (3..20).map(|_| kept.put("clerk", 3, "raced"));
    let won = futures::future::join_all(racing).await.into_iter().filter(|won| *won.as_ref().unwrap()).count();
    assert_eq!(won, 1, "several made the same version");
}

/// Everything a queue must do that needs no waiting.
pub async fn queue(make: impl AsyncFn() -> Queues) {
    let (queue, steps, calls) = make().await;
    let step = Message::Step { run: sample::run(1), record: 2, not_before: None };
    let call = Message::Call { run: sample::run(1), call: CallId { record: 2, index: 0 }, sandbox: true, not_before: None };
    queue.send(call.clone()).await.unwrap();
    queue.send(step.clone()).await.unwrap();
    let delivery = steps.receive().await.unwrap();
    assert_eq!((&delivery.message, delivery.receives), (&step, 1));
    steps.give_back(&delivery, Timestamp::ZERO).await;
    let again = steps.receive().await.unwrap();
    assert_eq!((&again.message, again.receives), (&step, 2), "what is given back comes again");
    steps.ack(&again).await;
    let delivery = calls.receive().await.unwrap();
    assert_eq!(delivery.message, call);
    calls.ack(&delivery).await;
    queue.send(step.clone()).await.unwrap();
    queue.send(step.clone()).await.unwrap();
    for _ in 0..2 {
        let delivery = steps.receive().await.unwrap();
        assert_eq!(delivery.receives, 1, "two messages are two deliveries, also if they say the same");
        steps.ack(&delivery).await;
    }
}
