use super::{TestWorld, begin, own, sample, step};
use crate::{DataFolder, LocalStore};
use errand_core::{Due, Item, ItemBody, ItemKey, RunId, RunLog, Timestamp};
use errand_engine::ports::{Put, Store, World};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A folder whose owners come and go, in good order or not.
struct Owners {
    folder: tempfile::TempDir,
    world: Arc<TestWorld>,
    open: Option<DataFolder>,
}

impl Owners {
    fn new() -> Self {
        let (folder, world) = (tempfile::tempdir().unwrap(), TestWorld::new());
        let open = Some(own(folder.path(), &world).unwrap());
        Self { folder, world, open }
    }

    fn store(&self) -> &LocalStore {
        self.open.as_ref().unwrap().store()
    }

    /// The owner is gone without a word: what was only in memory is lost.
    fn crash(&mut self) {
        drop(self.open.take());
        self.open = Some(own(self.folder.path(), &self.world).unwrap());
    }

    async fn close(&mut self) {
        self.open.take().unwrap().close().await.unwrap();
        self.open = Some(own(self.folder.path(), &self.world).unwrap());
    }

    async fn put(&self, run: RunId, item: &Item) -> Put {
        self.store().put(run, item, None).await.unwrap()
    }

    async fn items(&self, run: RunId) -> BTreeMap<ItemKey, Item> {
        self.store().load(run).await.unwrap().unwrap().log.items
    }

    async fn stored(&self, run: RunId) -> Vec<String> {
        let stored = self.store().load_stored(run).await.unwrap().unwrap();
        stored.log.items.keys().map(ItemKey::to_string).collect()
    }
}

fn later() -> Timestamp {
    sample::at(1 << 40)
}

fn claim(record: u64, attempt: u32) -> Item {
    sample::claim(record, attempt, 5, later())
}

fn names(items: &BTreeMap<ItemKey, Item>) -> Vec<String> {
    items.keys().map(ItemKey::to_string).collect()
}

fn reserve(log: &RunLog) -> errand_core::Amount {
    match log.run.head.due {
        Due::Model { reserve, .. } => reserve,
        _ => panic!("no model call is due"),
    }
}

const FIRST: &str = "claim/0000000002/00001";
const SECOND: &str = "claim/0000000002/00002";

#[tokio::test]
async fn a_claim_costs_no_write_and_is_seen_like_any_item() {
    let owners = Owners::new();
    let log = begin(owners.store(), 1).await;
    let run = log.run.id;
    let before = owners.store().stats().unwrap().transactions();
    assert_eq!(owners.put(run, &claim(2, 1)).await, Put::Stored);
    assert_eq!(owners.put(run, &sample::claim(2, 1, 6, later())).await, Put::Taken(claim(2, 1)));
    assert_eq!(owners.store().item(run, &claim(2, 1).key).await.unwrap(), Some(claim(2, 1)));
    assert_eq!(names(&owners.items(run).await), [FIRST]);
    assert_eq!(owners.put(run, &sample::void(2, 1)).await, Put::Stored);
    assert_eq!(owners.put(run, &sample::void(2, 1)).await, Put::Taken(sample::void(2, 1)));
    assert_eq!(owners.items(run).await.len(), 2);
    assert_eq!(owners.store().stats().unwrap().transactions(), before);
    assert!(owners.stored(run).await.is_empty());
}

#[tokio::test]
async fn a_booked_or_void_claim_is_forgotten_with_its_record() {
    let owners = Owners::new();
    let mut log = begin(owners.store(), 1).await;
    owners.put(log.run.id, &claim(2, 1)).await;
    owners.put(log.run.id, &sample::void(2, 1)).await;
    owners.put(log.run.id, &claim(2, 2)).await;
    step(owners.store(), &mut log, 2, true).await;
    assert!(owners.items(log.run.id).await.is_empty());
    assert!(owners.stored(log.run.id).await.is_empty());
}

#[tokio::test]
async fn a_claim_that_its_record_does_not_book_is_stored_with_the_record() {
    let mut owners = Owners::new();
    let mut log = begin(owners.store(), 1).await;
    owners.put(log.run.id, &claim(2, 1)).await;
    step(owners.store(), &mut log, 0, false).await;
    assert_eq!(owners.stored(log.run.id).await, [FIRST]);
    assert_eq!(names(&owners.items(log.run.id).await), [FIRST]);
    owners.crash();
    assert!(names(&owners.items(log.run.id).await).contains(&FIRST.to_owned()));
}

#[tokio::test]
async fn a_claim_is_stored_with_its_waste() {
    let mut owners = Owners::new();
    let log = begin(owners.store(), 1).await;
    owners.put(log.run.id, &claim(2, 1)).await;
    assert_eq!(owners.put(log.run.id, &sample::waste(2, 1)).await, Put::Stored);
    assert_eq!(owners.stored(log.run.id).await, [FIRST, "waste/0000000002/00001"]);
    assert_eq!(owners.put(log.run.id, &claim(2, 1)).await, Put::Taken(claim(2, 1)));
    let bill = owners.store().load(log.run.id).await.unwrap().unwrap().log.bill();
    assert_eq!((bill.waste.tokens, bill.open.tokens), (7, 0));
    owners.crash();
    assert_eq!(owners.items(log.run.id).await.len(), 2, "what is known to be wasted is not made up for");
}

#[tokio::test]
async fn a_second_open_claim_makes_both_durable() {
    let mut owners = Owners::new();
    let log = begin(owners.store(), 1).await;
    owners.put(log.run.id, &claim(2, 1)).await;
    assert_eq!(owners.put(log.run.id, &claim(2, 2)).await, Put::Stored);
    assert_eq!(owners.stored(log.run.id).await, [FIRST, SECOND]);
    assert_eq!(owners.put(log.run.id, &sample::void(2, 2)).await, Put::Stored);
    owners.crash();
    assert_eq!(owners.items(log.run.id).await.len(), 3, "both claims and the void, nothing made up");
}

#[tokio::test]
async fn a_late_claim_is_durable() {
    let owners = Owners::new();
    let mut log = begin(owners.store(), 1).await;
    owners.put(log.run.id, &claim(2, 1)).await;
    step(owners.store(), &mut log, 1, true).await;
    assert_eq!(owners.put(log.run.id, &claim(2, 2)).await, Put::Stored);
    assert_eq!(owners.stored(log.run.id).await, [SECOND]);
}

#[tokio::test]
async fn a_crash_books_one_claim_for_a_call_that_may_have_been_made() {
    let mut owners = Owners::new();
    let mut log = begin(owners.store(), 1).await;
    step(owners.store(), &mut log, 0, false).await;
    owners.put(log.run.id, &claim(3, 1)).await;
    owners.world.set(50);
    owners.crash();
    let loaded = owners.store().load(log.run.id).await.unwrap().unwrap().log;
    let item = loaded.items.values().next().unwrap();
    assert_eq!(item.key, ItemKey::Claim { record: 3, attempt: 1 });
    let ItemBody::Claim { bound, expires, .. } = item.body else { panic!("{item:?}") };
    assert_eq!((bound, expires), (reserve(&log), sample::at(50)));
    let settled = loaded.settle(None, sample::at(50));
    assert_eq!(settled.len(), 1, "the next record books it");
    assert_eq!((settled[0].spent.amount, settled[0].spent.confirmed), (reserve(&log), false));

    owners.crash();
    owners.crash();
    assert_eq!(owners.items(log.run.id).await.len(), 1, "owners that claimed nothing add nothing");
    assert_eq!(owners.put(log.run.id, &claim(3, 2)).await, Put::Stored);
    assert_eq!(owners.stored(log.run.id).await.len(), 2, "a claim on another owner's record is durable");
    owners.crash();
    assert_eq!(owners.items(log.run.id).await.len(), 2);
    let expires = owners.items(log.run.id).await.into_values().map(|item| match item.body {
        ItemBody::Claim { expires, .. } => expires,
        other => panic!("{other:?}"),
    });
    assert!(expires.into_iter().all(|expires| expires <= owners.world.now()), "their makers are dead");
    let stored = owners.store().item(log.run.id, &claim(3, 2).key).await.unwrap().unwrap();
    assert_ne!(stored, claim(3, 2), "a single item reads as over too");
}

#[tokio::test]
async fn a_crash_makes_nothing_up_for_runs_that_no_call_was_due_for() {
    let mut owners = Owners::new();
    let log = begin(owners.store(), 1).await;
    let answer = sample::answer(&log);
    owners.store().commit(log.run.id, &answer, None).await.unwrap();
    let waiting = begin(owners.store(), 2).await;
    owners.put(waiting.run.id, &claim(2, 1)).await;
    owners.put(waiting.run.id, &sample::void(2, 1)).await;
    owners.close().await;
    owners.crash();
    assert!(owners.items(log.run.id).await.is_empty());
    assert!(owners.items(waiting.run.id).await.is_empty(), "the owner of its head closed in good order");
    assert_eq!(owners.store().unfinished().await.unwrap(), [waiting.run.id]);
}

#[tokio::test]
async fn a_claim_on_the_record_of_another_owner_is_durable() {
    let mut owners = Owners::new();
    let log = begin(owners.store(), 1).await;
    owners.close().await;
    assert_eq!(owners.put(log.run.id, &claim(2, 1)).await, Put::Stored);
    assert_eq!(owners.stored(log.run.id).await, [FIRST], "the next owner would make nothing up for it");
    owners.crash();
    assert_eq!(names(&owners.items(log.run.id).await), [FIRST]);
}

#[tokio::test]
async fn closing_stores_the_claims_that_are_open() {
    let mut owners = Owners::new();
    let open = begin(owners.store(), 1).await.run.id;
    owners.put(open, &claim(2, 1)).await;
    let idle = begin(owners.store(), 2).await.run.id;
    owners.world.set(70);
    owners.close().await;
    let items = owners.items(open).await;
    assert_eq!(names(&items), [FIRST]);
    let ItemBody::Claim { bound, expires, .. } = items.values().next().unwrap().body else { panic!("{items:?}") };
    assert_eq!(expires, owners.world.now().min(later()));
    assert_ne!(bound, errand_core::Amount::ZERO);
    assert!(owners.items(idle).await.is_empty());
    let bytes: String = rusqlite::Connection::open(owners.folder.path().join("errand.db"))
        .unwrap()
        .query_row("SELECT item FROM items", [], |row| row.get(0))
        .unwrap();
    assert_eq!(serde_json::from_str::<Item>(&bytes).unwrap(), claim(2, 1), "what is stored stays as it was written");
}

#[tokio::test]
async fn claims_of_runs_that_left_the_cache_are_still_there() {
    let owners = Owners::new();
    let log = begin(owners.store(), 1).await;
    owners.put(log.run.id, &claim(2, 1)).await;
    for number in 2..40 {
        let mut other = sample::started(&"x".repeat(200_000));
        other.config.instructions = number.to_string();
        let making = errand_core::Making { made_under: 0, attempt: 0, maker: errand_core::Nonce(1) };
        let other = RunLog::begin(sample::run(number), other, sample::at(number), making);
        owners.store().begin(other.run.id, &other.records, sample::at(1)).await.unwrap();
    }
    let before = owners.store().stats().unwrap().transactions();
    assert_eq!(owners.put(log.run.id, &claim(2, 1)).await, Put::Taken(claim(2, 1)));
    assert_eq!(names(&owners.items(log.run.id).await), [FIRST]);
    assert_eq!(owners.put(log.run.id, &sample::void(2, 1)).await, Put::Stored);
    assert_eq!(owners.stats_since(before), 0);
}

impl Owners {
    fn stats_since(&self, before: u64) -> u64 {
        self.store().stats().unwrap().transactions() - before
    }
}
