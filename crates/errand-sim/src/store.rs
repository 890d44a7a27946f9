//! The store of the simulated world: right about conditions, unreliable about answers.

use crate::twin::{Seen, compare};
use crate::world::{Sim, State, StoredRun};
use async_trait::async_trait;
use errand_core::{Due, Item, ItemBody, ItemKey, Record, RunId, RunLog, Sealed, Timestamp};
use errand_engine::ports::{Commit, DueEntry, Loaded, Page, PortError, Put, RunFilter, RunSummary, Store};
use std::sync::Arc;

impl Sim {
    async fn read<T>(&self, act: impl FnOnce(&mut State) -> T + Send) -> Result<T, PortError> {
        self.turn().await;
        if self.chance(|faults| faults.throttle) {
            return Err(lost("a read was throttled"));
        }
        Ok(act(&mut self.lock()))
    }

    async fn write<T>(&self, mut act: impl FnMut(&mut State) -> T + Send) -> Result<T, PortError>
    where
        T: Send,
    {
        self.turn().await;
        if self.chance(|faults| faults.throttle) {
            return Err(lost("a write was throttled"));
        }
        let mut answer = act(&mut self.lock());
        if self.chance(|faults| faults.retried) {
            answer = act(&mut self.lock());
        }
        self.turn().await;
        if self.chance(|faults| faults.lost_reply) {
            return Err(lost("the answer to a write was lost"));
        }
        Ok(answer)
    }
}

fn unknown(run: RunId) -> PortError {
    PortError::Broken { code: "run_unknown", message: format!("{run} was never begun") }
}

fn gap(run: RunId, number: u64) -> PortError {
    PortError::Broken { code: "log_damaged", message: format!("record {number} does not follow the last record of {run}") }
}

fn lost(message: &str) -> PortError {
    PortError::Retry { message: message.to_owned() }
}

#[async_trait]
impl Store for Sim {
    async fn begin(&self, run: RunId, records: &[Sealed], due: Timestamp) -> Result<Commit, PortError> {
        self.trace(|| format!("begin {run}"));
        self.write(|state| {
            let told = begin(state, run, records, due);
            compare(state, told, Commit::eq, |twin| async move { twin.begin(run, records, due).await })
        })
        .await
    }

    async fn load(&self, run: RunId) -> Result<Option<Loaded>, PortError> {
        self.read(|state| {
            let told = state.runs.get(&run).and_then(|stored| loaded(run, stored));
            let seen = told.as_ref().map(Seen::of);
            compare(state, seen, Option::eq, |twin| async move { Ok(twin.load(run).await?.as_ref().map(Seen::of)) });
            told
        })
        .await
    }

    async fn last(&self, run: RunId) -> Result<Option<Arc<Record>>, PortError> {
        self.read(|state| {
            let last = state.runs.get(&run).and_then(|stored| stored.records.last());
            let told = last.map(|sealed| Arc::clone(&sealed.record));
            compare(state, told, Option::eq, |twin| async move { twin.last(run).await })
        })
        .await
    }

    async fn commit(&self, run: RunId, record: &Sealed, wake: Option<Timestamp>) -> Result<Commit, PortError> {
        self.trace(|| format!("commit {run} {} {}", record.record.number, record.record.event.kind()));
        // A real store may find what an earlier try of its own has written.
        let own = Commit::Taken(Arc::clone(&record.record));
        let agree = |told: &Commit, asked: &Commit| told == asked || (*told == Commit::Stored && *asked == own);
        self.write(|state| {
            let told = commit(state, run, record, wake)?;
            Ok(compare(state, told, agree, |twin| async move { twin.commit(run, record, wake).await }))
        })
        .await?
    }

    async fn put(&self, run: RunId, item: &Item, wake: Option<Timestamp>) -> Result<Put, PortError> {
        self.trace(|| format!("put {run} {}", item.key));
        // A real store may find what an earlier try of its own has written.
        let own = Put::Taken(item.clone());
        let agree = |told: &Put, asked: &Put| told == asked || (*told == Put::Stored && *asked == own);
        self.write(|state| {
            let told = put(state, run, item, wake)?;
            Ok(compare(state, told, agree, |twin| async move { twin.put(run, item, wake).await }))
        })
        .await?
    }

    async fn item(&self, run: RunId, key: &ItemKey) -> Result<Option<Item>, PortError> {
        self.read(|state| {
            let stored = state.runs.get(&run);
            let told = stored.and_then(|stored| stored.items.get(key).or_else(|| stored.volatile.get(key)).cloned());
            compare(state, told, Option::eq, |twin| async move { twin.item(run, key).await })
        })
        .await
    }

    async fn move_due(&self, run: RunId, seen: Option<DueEntry>, at: Option<Timestamp>) -> Result<bool, PortError> {
        self.trace(|| format!("move due {run} to {at:?}"));
        self.write(|state| {
            let fits = state.runs.get_mut(&run).filter(|stored| stored.due == seen);
            let told = fits.map(|stored| set_due(stored, at)).is_some();
            compare(state, told, bool::eq, |twin| async move { twin.move_due(run, seen, at).await })
        })
        .await
    }

    async fn overdue(&self, now: Timestamp, limit: u32) -> Result<Vec<RunId>, PortError> {
        self.read(|state| {
            let mut due: Vec<(Timestamp, RunId)> = state
                .runs
                .iter()
                .filter_map(|(run, stored)| stored.due.filter(|due| due.at <= now).map(|due| (due.at, *run)))
                .collect();
            due.sort();
            let told: Vec<RunId> = due.into_iter().take(limit as usize).map(|(_, run)| run).collect();
            compare(state, told, Vec::eq, |twin| async move { twin.overdue(now, limit).await })
        })
        .await
    }

    async fn list(&self, filter: &RunFilter) -> Result<Page, PortError> {
        let wanted = |summary: &RunSummary| {
            filter.tenant == summary.tenant
                && filter.status.as_ref().is_none_or(|status| *status == summary.status)
                && filter.before.is_none_or(|before| summary.run < before)
        };
        let limit = if filter.limit == 0 { 50 } else { filter.limit as usize };
        self.read(|state| {
            let logs =
                state.runs.iter().rev().filter_map(|(run, stored)| RunLog::fold(*run, stored.records.clone(), []).ok());
            let mut runs: Vec<RunSummary> = logs.map(|log| RunSummary::of(&log)).filter(wanted).take(limit + 1).collect();
            let has_more = runs.len() > limit;
            runs.truncate(limit);
            Page { runs, has_more }
        })
        .await
    }
}

fn begin(state: &mut State, run: RunId, records: &[Sealed], due: Timestamp) -> Commit {
    if let Some(stored) = state.runs.get(&run) {
        return Commit::Taken(Arc::clone(&stored.records[0].record));
    }
    let mut stored = StoredRun { records: records.to_vec(), ..StoredRun::default() };
    set_due(&mut stored, Some(due));
    state.runs.insert(run, stored);
    state.truth.began(run, records);
    Commit::Stored
}

fn loaded(run: RunId, stored: &StoredRun) -> Option<Loaded> {
    let items = stored.items.values().chain(stored.volatile.values()).cloned();
    let log = RunLog::fold(run, stored.records.clone(), items).ok()?;
    Some(Loaded { log, due: stored.due })
}

fn commit(state: &mut State, run: RunId, record: &Sealed, wake: Option<Timestamp>) -> Result<Commit, PortError> {
    let number = record.record.number;
    let stored = state.runs.get_mut(&run).filter(|stored| number <= stored.records.len() as u64 + 1);
    let Some(stored) = stored else { return Err(gap(run, number)) };
    if let Some(taken) = stored.records.get(number as usize - 1) {
        return Ok(Commit::Taken(Arc::clone(&taken.record)));
    }
    let before = stored.records.last().map(|last| last.hash).unwrap_or_default();
    if let Err(error) = Sealed::open(&record.bytes, record.hash, &before, number) {
        state.truth.violate(format!("{run}: {error}"));
    }
    stored.records.push(record.clone());
    if wake.is_some() {
        set_due(stored, wake);
    }
    persist_claims(stored, &record.record);
    state.truth.committed(run, record);
    Ok(Commit::Stored)
}

fn put(state: &mut State, run: RunId, item: &Item, wake: Option<Timestamp>) -> Result<Put, PortError> {
    let (exclusive, current) = (state.faults.exclusive, state.current);
    let Some(stored) = state.runs.get_mut(&run) else { return Err(unknown(run)) };
    let taken = stored.items.get(&item.key).or_else(|| stored.volatile.get(&item.key)).cloned();
    if let Some(taken) = taken {
        return Ok(Put::Taken(taken));
    }
    if wake.is_some() {
        set_due(stored, wake);
    }
    if let ItemKey::Waste { record, attempt } = item.key
        && let Some(claim) = stored.volatile.remove(&ItemKey::Claim { record, attempt })
    {
        stored.items.insert(claim.key.clone(), claim);
    }
    let volatile = exclusive && matches!(item.key, ItemKey::Claim { .. } | ItemKey::Void { .. });
    let place = if volatile { &mut stored.volatile } else { &mut stored.items };
    place.insert(item.key.clone(), item.clone());
    state.truth.put(run, item, current);
    Ok(Put::Stored)
}

fn set_due(stored: &mut StoredRun, at: Option<Timestamp>) {
    stored.due_version += 1;
    stored.due = at.map(|at| DueEntry { at, version: stored.due_version });
}

/// What an exclusive store does when a record takes the number that claims in memory were made for.
fn persist_claims(stored: &mut StoredRun, record: &Record) {
    let number = record.number;
    let of_number = |key: &ItemKey| match key {
        ItemKey::Claim { record, .. } | ItemKey::Void { record, .. } => *record == number,
        _ => false,
    };
    let keys: Vec<ItemKey> = stored.volatile.keys().filter(|key| of_number(key)).cloned().collect();
    for key in keys {
        if let Some(item) = stored.volatile.remove(&key) {
            stored.items.insert(key, item);
        }
    }
}

/// What an exclusive store does when it is opened after its owner died: calls that may have been under way are claimed
/// by nobody and over, fences of the dead owner have run out.
pub(crate) fn recover(state: &mut State) {
    let now = state.now;
    for stored in state.runs.values_mut() {
        stored.volatile.clear();
        for item in stored.items.values_mut() {
            if let ItemBody::Fence { expires, .. } | ItemBody::Claim { expires, .. } = &mut item.body {
                *expires = (*expires).min(now);
            }
        }
        let Some(last) = stored.records.last().map(|sealed| Arc::clone(&sealed.record)) else { continue };
        let Due::Model { reserve, .. } = last.head.due else { continue };
        let record = last.number + 1;
        let attempts = stored.items.keys().filter_map(|key| match key {
            ItemKey::Claim { record: of, attempt } if *of == record => Some(*attempt),
            _ => None,
        });
        let attempt = attempts.max().unwrap_or(0) + 1;
        let body = ItemBody::Claim { by: last.maker, bound: reserve, expires: now };
        let key = ItemKey::Claim { record, attempt };
        stored.items.insert(key.clone(), Item { key, at: now, body });
    }
}
