//! What the owner keeps in memory of the runs at work: their logs, so that step n does not read n records, and the
//! claims that are not stored.
//!
//! The writer is the only one to change it: after a transaction took hold and before anybody is told.

use super::claims::{self, Admitted, Facts, RunClaims};
use errand_core::{CallState, Item, ItemBody, ItemKey, PendingCall, Record, RunId, RunLog, Sealed, Timestamp};
use errand_engine::ports::{DueEntry, Loaded, Put};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a write has to know of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Brief {
    /// Row of the run.
    pub(crate) row: i64,
    /// Number of its last record.
    pub(crate) head: u64,
    /// The owner that committed that record.
    pub(crate) head_epoch: i64,
    /// Its status code, as stored.
    pub(crate) status: String,
    /// When its entry in the due index is due, if it has one.
    pub(crate) due_at: Option<Timestamp>,
    /// Version of that entry, also when it was removed.
    pub(crate) due_version: u64,
}

impl Brief {
    /// The entry in the due index.
    pub(crate) fn due(&self) -> Option<DueEntry> {
        self.due_at.map(|at| DueEntry { at, version: self.due_version })
    }
}

/// The stored part of a run.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) brief: Brief,
    /// Records and stored items, as they are stored.
    pub(crate) log: RunLog,
    /// Claims and fences whose makers died with an earlier owner.
    pub(crate) inherited: Vec<ItemKey>,
}

impl Entry {
    /// The run as a worker sees it.
    pub(crate) fn loaded(&self, claims: Option<&RunClaims>, now: Timestamp) -> Loaded {
        let mut log = self.log.clone();
        for key in &self.inherited {
            if let Some(item) = log.items.get_mut(key) {
                expire(item, now);
            }
        }
        for item in claims.into_iter().flat_map(RunClaims::items) {
            log.items.insert(item.key.clone(), item.clone());
        }
        Loaded { log, due: self.brief.due() }
    }

    /// One stored item as a worker sees it.
    fn item(&self, key: &ItemKey, now: Timestamp) -> Option<Item> {
        let mut item = self.log.items.get(key)?.clone();
        if self.inherited.contains(key) {
            expire(&mut item, now);
        }
        Some(item)
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Record(sealed) => self.log.push(sealed),
            Change::Item(item) => drop(self.log.items.insert(item.key.clone(), item)),
        }
    }

    /// True if nothing is due in it: it has ended, or waits without a deadline. Such a run costs no memory; whoever wants
    /// it again reads it. One that waits for sub-runs is looked at by each of their steps.
    fn is_at_rest(&self) -> bool {
        let waits_for = |call: &PendingCall| matches!(call.state, CallState::SubRun { .. });
        self.brief.due_at.is_none() && !self.log.run.head.due.calls().iter().any(waits_for)
    }

    /// About how much memory it takes: a record is kept as bytes and as a value.
    fn size(&self) -> usize {
        let records: usize = self.log.records.iter().map(|sealed| sealed.bytes.len() * 3 + 512).sum();
        records + self.log.items.len() * 1_024
    }
}

/// Makes a claim or a fence end now at the latest.
pub(crate) fn expire(item: &mut Item, now: Timestamp) {
    if let ItemBody::Claim { expires, .. } | ItemBody::Fence { expires, .. } = &mut item.body {
        *expires = (*expires).min(now);
    }
}

/// What a transaction added to a run.
#[derive(Debug)]
pub(crate) enum Change {
    Record(Sealed),
    Item(Item),
}

/// What a transaction made of a run.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) run: RunId,
    /// The run as it was begun, if this transaction began it.
    pub(crate) begun: Option<Entry>,
    pub(crate) brief: Option<Brief>,
    pub(crate) changes: Vec<Change>,
    pub(crate) claims: RunClaims,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<RunId, Slot>,
    bytes: usize,
    clock: u64,
    claims: HashMap<RunId, RunClaims>,
    /// Runs the writer is at: their claims are decided by it.
    busy: HashSet<RunId>,
    /// Runs being read from the database, and whether they changed since.
    loading: HashMap<RunId, Loading>,
}

#[derive(Debug)]
struct Slot {
    entry: Entry,
    bytes: usize,
    used: u64,
}

#[derive(Debug, Default)]
struct Loading {
    readers: usize,
    changed: bool,
}

/// The memory of an owner.
#[derive(Debug)]
pub(crate) struct Cache {
    inner: Mutex<Inner>,
    bytes_max: usize,
}

/// What a load finds in memory.
pub(crate) enum Found<'a> {
    Loaded(Box<Loaded>),
    /// Not there: read it, then hand it in with the ticket.
    Ticket(Ticket<'a>),
}

/// A read that is under way.
pub(crate) struct Ticket<'a> {
    cache: &'a Cache,
    run: RunId,
    claims: Option<RunClaims>,
}

impl Cache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { inner: Mutex::default(), bytes_max }
    }

    /// The run, or a ticket to read it.
    pub(crate) fn find(&self, run: RunId, now: Timestamp) -> Found<'_> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.clock += 1;
        if let Some(slot) = inner.entries.get_mut(&run) {
            slot.used = inner.clock;
            return Found::Loaded(Box::new(slot.entry.loaded(inner.claims.get(&run), now)));
        }
        inner.loading.entry(run).or_default().readers += 1;
        // Taken before the database is read: a claim that is stored in between is then in both, never in neither.
        Found::Ticket(Ticket { cache: self, run, claims: inner.claims.get(&run).cloned() })
    }

    /// The last record, if the run is in memory.
    pub(crate) fn last(&self, run: RunId) -> Option<Arc<Record>> {
        let inner = self.lock();
        let last = inner.entries.get(&run)?.entry.log.records.last()?;
        Some(Arc::clone(&last.record))
    }

    /// One item: `None` if the database has to be asked.
    pub(crate) fn item(&self, run: RunId, key: &ItemKey, now: Timestamp) -> Option<Option<Item>> {
        let inner = self.lock();
        if let Some(item) = inner.claims.get(&run).and_then(|claims| claims.get(key)) {
            return Some(Some(item.clone()));
        }
        Some(inner.entries.get(&run)?.entry.item(key, now))
    }

    /// Takes in a claim or a void without the writer, if memory alone can tell what becomes of it.
    pub(crate) fn claim(&self, run: RunId, item: &Item, epoch: i64) -> Option<Put> {
        let (ItemKey::Claim { record, .. } | ItemKey::Void { record, .. }) = item.key else { return None };
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.busy.contains(&run) {
            return None;
        }
        let entry = &inner.entries.get(&run)?.entry;
        let facts = Facts {
            head: entry.brief.head,
            head_is_ours: entry.brief.head_epoch == epoch,
            taken: entry.log.items.get(&item.key).cloned(),
            open_stored: claims::has_open(&entry.log.items, record),
        };
        // What has to be stored is tried on a copy: the writer decides on it once more.
        let mut claims = inner.claims.get(&run).cloned().unwrap_or_default();
        match claims.admit(item, facts) {
            Admitted::Taken(item) => Some(Put::Taken(*item)),
            Admitted::InMemory => {
                inner.claims.insert(run, claims);
                Some(Put::Stored)
            }
            Admitted::Store(_) => None,
        }
    }

    /// The writer begins a transaction on a run: from now on it alone decides on claims.
    pub(crate) fn reserve(&self, run: RunId) -> (Option<Brief>, RunClaims) {
        let mut inner = self.lock();
        inner.busy.insert(run);
        let brief = inner.entries.get(&run).map(|slot| slot.entry.brief.clone());
        (brief, inner.claims.get(&run).cloned().unwrap_or_default())
    }

    /// The transaction took hold.
    pub(crate) fn commit(&self, changed: impl IntoIterator<Item = Changed>) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        for Changed { run, begun, brief, changes, claims } in changed {
            if let Some(loading) = inner.loading.get_mut(&run) {
                loading.changed = true;
            }
            if claims.is_empty() {
                inner.claims.remove(&run);
            } else {
                inner.claims.insert(run, claims);
            }
            if let Some(entry) = begun {
                inner.insert(run, entry);
            }
            if let Some(slot) = inner.entries.get_mut(&run) {
                changes.into_iter().for_each(|change| slot.entry.take(change));
                if let Some(brief) = brief {
                    slot.entry.brief = brief;
                }
                let bytes = slot.entry.size();
                inner.bytes = inner.bytes + bytes - slot.bytes;
                slot.bytes = bytes;
                if slot.entry.is_at_rest() {
                    inner.forget(run);
                }
            }
        }
        inner.busy.clear();
        inner.shrink(self.bytes_max);
    }

    /// The transaction did not take hold.
    pub(crate) fn abandon(&self) {
        self.lock().busy.clear();
    }

    /// Takes out every claim that is not void, to be stored before the owner leaves.
    pub(crate) fn take_open_claims(&self) -> Vec<(RunId, Vec<Item>)> {
        let mut inner = self.lock();
        inner.claims.drain().map(|(run, mut claims)| (run, claims.take_open())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code that holds the lock can panic half way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn insert(&mut self, run: RunId, entry: Entry) {
        let bytes = entry.size();
        self.clock += 1;
        self.bytes += bytes;
        if let Some(old) = self.entries.insert(run, Slot { entry, bytes, used: self.clock }) {
            self.bytes -= old.bytes;
        }
    }

    fn forget(&mut self, run: RunId) {
        if let Some(slot) = self.entries.remove(&run) {
            self.bytes -= slot.bytes;
        }
    }

    /// Forgets the runs that were looked at the longest ago. The newest stays however large it is: its next step would
    /// only read it again.
    fn shrink(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max && self.entries.len() > 1 {
            let Some(oldest) = self.entries.iter().min_by_key(|(_, slot)| slot.used).map(|(run, _)| *run) else { return };
            self.forget(oldest);
        }
    }
}

impl Ticket<'_> {
    /// Takes in what was read, unless the run changed meanwhile. What was read is right in any case: as it was when the
    /// load began.
    pub(crate) fn redeem(self, entry: Entry, now: Timestamp) -> Loaded {
        let loaded = entry.loaded(self.claims.as_ref(), now);
        let mut guard = self.cache.lock();
        let inner = &mut *guard;
        let changed = inner.loading.get(&self.run).is_none_or(|loading| loading.changed);
        // A transaction under way may be in what was read or not; it adds its records only to what was there before.
        if !changed && !entry.is_at_rest() && !inner.busy.contains(&self.run) && !inner.entries.contains_key(&self.run) {
            inner.insert(self.run, entry);
            inner.shrink(self.cache.bytes_max);
        }
        loaded
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut inner = self.cache.lock();
        if let Some(loading) = inner.loading.get_mut(&self.run) {
            loading.readers -= 1;
            if loading.readers == 0 {
                inner.loading.remove(&self.run);
            }
        }
    }
}
