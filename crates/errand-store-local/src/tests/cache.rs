use super::{TestWorld, begin, own, read, sample};
use crate::LocalStore;
use crate::store::cache::{Brief, Cache, Changed, Entry, Found};
use crate::store::claims::RunClaims;
use errand_core::{ItemKey, RunLog, Timestamp};
use errand_engine::ports::{Commit, Put, Store};
use std::collections::BTreeMap;

/// What was read before a write took hold, or while it was on its way, may be handed out but not kept.
#[test]
fn what_was_read_beside_a_write_is_not_kept() {
    let entry = || {
        let log = sample::log(sample::run(1), sample::at(1));
        let brief = Brief {
            row: 1,
            head: 1,
            head_epoch: 1,
            status: "running".to_owned(),
            due_at: Some(sample::at(9)),
            due_version: 1,
        };
        Entry { brief, log, inherited: Vec::new() }
    };
    let run = sample::run(1);
    let changed = || Changed { run, begun: None, brief: None, changes: vec![], claims: RunClaims::default() };
    let ticket = |cache: &Cache| match cache.find(run, sample::at(1)) {
        Found::Ticket(ticket) => drop(ticket),
        Found::Loaded(_) => panic!("it was kept"),
    };
    for order in ["write within the read", "read within the write", "read ends within the write"] {
        let cache = Cache::new(1 << 20);
        if order == "read within the write" {
            cache.reserve(run);
        }
        let Found::Ticket(read) = cache.find(run, sample::at(1)) else { panic!("{order}") };
        if order != "read within the write" {
            cache.reserve(run);
        }
        if order == "write within the read" {
            cache.commit([changed()]);
        }
        read.redeem(entry(), sample::at(1));
        if order != "write within the read" {
            cache.commit([changed()]);
        }
        ticket(&cache);
        let Found::Ticket(read) = cache.find(run, sample::at(1)) else { panic!("{order}") };
        read.redeem(entry(), sample::at(1));
        assert!(matches!(cache.find(run, sample::at(1)), Found::Loaded(_)), "{order}: what is read afterwards is kept");
    }
}

/// A run in which nothing is due costs no memory, however it came to be there.
#[test]
fn a_run_at_rest_is_not_kept() {
    let run = sample::run(1);
    let log = sample::log(run, sample::at(1));
    let brief = |due_at| Brief { row: 1, head: 1, head_epoch: 1, status: "waiting".to_owned(), due_at, due_version: 1 };
    let entry = |due_at| Entry { brief: brief(due_at), log: log.clone(), inherited: Vec::new() };
    let changed =
        |begun, due_at| Changed { run, begun, brief: Some(brief(due_at)), changes: vec![], claims: RunClaims::default() };
    let cache = Cache::new(1 << 20);
    let is_kept = || matches!(cache.find(run, sample::at(1)), Found::Loaded(_));
    let due = Some(sample::at(9));
    cache.reserve(run);
    cache.commit([changed(Some(entry(due)), due)]);
    assert!(is_kept());
    cache.reserve(run);
    cache.commit([changed(None, None)]);
    assert!(!is_kept());
    let Found::Ticket(read) = cache.find(run, sample::at(1)) else { panic!("it was kept") };
    read.redeem(entry(None), sample::at(1));
    assert!(!is_kept());
}

/// A small generator of choices: the same seed gives the same choices.
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What a run has to look like, worked out apart from the store.
struct Model {
    log: RunLog,
    due: Option<Timestamp>,
    /// Claims and voids that memory may forget: those of the last record, or before it, that it booked or that are void.
    forgettable: Vec<ItemKey>,
}

/// Random writes, with the owner coming and going: what memory says, what the database says, what a reader beside says
/// and what a plain model says must be the same.
#[tokio::test]
async fn memory_says_what_the_database_says() {
    for seed in 1..=10_u64 {
        let folder = tempfile::tempdir().unwrap();
        let world = TestWorld::new();
        let mut opened = own(folder.path(), &world).unwrap();
        let mut choices = Choices(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let mut runs: BTreeMap<u64, Model> = BTreeMap::new();
        for _ in 0..60 {
            let number = 1 + choices.below(4);
            match runs.get_mut(&number) {
                None => {
                    let log = begin(opened.store(), number).await;
                    runs.insert(number, Model { log, due: Some(sample::at(number)), forgettable: Vec::new() });
                }
                Some(model) => act(opened.store(), model, &mut choices).await,
            }
            if choices.below(12) == 0 {
                opened.close().await.unwrap();
                opened = own(folder.path(), &world).unwrap();
            }
            check(opened.store(), read(folder.path()).unwrap().store(), &runs, seed).await;
        }
    }
}

async fn act(store: &LocalStore, model: &mut Model, choices: &mut Choices) {
    let run = model.log.run.id;
    let due = model.log.run.number + 1;
    let attempt = 1 + choices.below(3) as u32;
    let wake = (choices.below(4) == 0).then(|| sample::at(choices.below(1_000)));
    let item = match choices.below(9) {
        0..=2 => {
            let books = choices.below(2) == 0;
            let record = sample::step(&model.log, attempt, choices.below(1_000), books);
            assert_eq!(store.commit(run, &record, wake).await.unwrap(), Commit::Stored);
            let stale = sample::step(&model.log, attempt, 2_000, books);
            assert_eq!(store.commit(run, &stale, None).await.unwrap(), Commit::Taken(record.record.clone()));
            model.log.push(record);
            model.due = wake.or(model.due);
            model.forget(books.then_some(attempt));
            return;
        }
        3 => {
            let seen = store.load(run).await.unwrap().unwrap().due;
            assert!(store.move_due(run, seen, wake).await.unwrap());
            assert!(!store.move_due(run, seen, wake).await.unwrap() || seen.is_none() && wake.is_none());
            model.due = wake;
            return;
        }
        4 | 5 => sample::claim(due, attempt, choices.below(50), sample::at(5_000)),
        6 => sample::void(due, attempt),
        7 => sample::waste(due, attempt),
        _ => sample::message(&choices.below(5).to_string(), &choices.below(1_000).to_string()),
    };
    let put = store.put(run, &item, wake).await.unwrap();
    match model.log.items.get(&item.key) {
        Some(taken) => assert_eq!(put, Put::Taken(taken.clone())),
        None => {
            assert_eq!(put, Put::Stored);
            model.log.items.insert(item.key.clone(), item);
            model.due = wake.or(model.due);
        }
    }
}

impl Model {
    /// Claims for the record just made that it booked, and void ones, may be gone from now on.
    fn forget(&mut self, booked: Option<u32>) {
        let number = self.log.run.number;
        let items = &self.log.items;
        let is_void = |attempt: u32| items.contains_key(&ItemKey::Void { record: number, attempt });
        let gone = items.keys().filter(|key| match key {
            ItemKey::Claim { record, attempt } => *record == number && (Some(*attempt) == booked || is_void(*attempt)),
            ItemKey::Void { record, .. } => *record == number,
            _ => false,
        });
        let gone: Vec<ItemKey> = gone.cloned().collect();
        self.forgettable.extend(gone);
    }
}

async fn check(store: &LocalStore, reader: &LocalStore, runs: &BTreeMap<u64, Model>, seed: u64) {
    for model in runs.values() {
        let run = model.log.run.id;
        let loaded = store.load(run).await.unwrap().unwrap();
        assert_eq!(loaded.log.records, model.log.records, "seed {seed}");
        assert_eq!(loaded.log.run, model.log.run, "seed {seed}");
        assert_eq!(loaded.due.map(|entry| entry.at), model.due, "seed {seed}");
        let stored = store.load_stored(run).await.unwrap().unwrap();
        assert_eq!(stored.log.records, loaded.log.records, "seed {seed}");
        assert_eq!(stored.due, loaded.due, "seed {seed}");
        let beside = reader.load(run).await.unwrap().unwrap();
        assert_eq!(beside.log.records, loaded.log.records, "seed {seed}");
        for (key, item) in &model.log.items {
            let Some(found) = loaded.log.items.get(key) else {
                assert!(model.forgettable.contains(key), "seed {seed}: {key} is gone");
                continue;
            };
            assert_eq!((&found.key, found.at), (&item.key, item.at), "seed {seed}");
            assert_eq!(store.item(run, key).await.unwrap().as_ref(), Some(found), "seed {seed}");
        }
        for key in loaded.log.items.keys() {
            assert!(model.log.items.contains_key(key), "seed {seed}: {key} came from nowhere");
        }
        for (key, item) in &stored.log.items {
            assert_eq!(loaded.log.items.get(key), Some(item), "seed {seed}");
        }
        let volatile = loaded.log.items.keys().filter(|key| !stored.log.items.contains_key(key));
        for key in volatile {
            assert!(matches!(key, ItemKey::Claim { .. } | ItemKey::Void { .. }), "seed {seed}: {key} is not stored");
        }
    }
    let overdue = store.overdue(sample::at(1 << 30), 100).await.unwrap().len();
    assert_eq!(overdue, runs.values().filter(|model| model.due.is_some()).count(), "seed {seed}");
}
