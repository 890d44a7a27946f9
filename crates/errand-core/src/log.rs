//! A run's whole log with the items beside it, folded to the state after the last record.

use crate::event::{Event, Started};
use crate::{
    Booked, CallId, Consumed, Decision, Executor, Hash, Input, Item, ItemBody, ItemKey, Nonce, Observation, Record,
    RecordError, Rejection, Run, RunId, SCHEMA, Sealed, Snapshot, Timestamp,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A run as it was loaded. Records are shared, so a clone is cheap.
#[derive(Debug, Clone)]
pub struct RunLog {
    /// The state after the last record.
    pub run: Run,
    /// All records, from number 1.
    pub records: Vec<Sealed>,
    /// The items beside the log, by key.
    pub items: BTreeMap<ItemKey, Item>,
}

/// Who makes a record, and under which message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Making {
    /// The record number of the message; 0 from outside.
    pub made_under: u64,
    /// The claim; 0 without one.
    pub attempt: u32,
    /// Who.
    pub maker: Nonce,
}

/// A log that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// A record is damaged.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// There is no record 1, or it does not start a run.
    #[error("the log does not begin with a started run")]
    NotStarted,
}

impl RunLog {
    /// The log of a new run: record 1.
    pub fn begin(id: RunId, started: Started, at: Timestamp, making: Making) -> Self {
        let config = Arc::new(started.config.clone());
        let head = started.head();
        let record = Record {
            schema: SCHEMA,
            run: id,
            number: 1,
            at,
            began: None,
            made_under: making.made_under,
            attempt: making.attempt,
            maker: making.maker,
            event: Event::Started(Box::new(started)),
            consumed: Vec::new(),
            books: Vec::new(),
            head: head.clone(),
        };
        let sealed = Sealed::seal(record, &Hash::default());
        let run = Run { id, config, number: 1, at, hash: sealed.hash, head };
        Self { run, records: vec![sealed], items: BTreeMap::new() }
    }

    /// Folds records and items as a store loaded them. The records must be in order and already opened.
    pub fn fold(id: RunId, records: Vec<Sealed>, items: impl IntoIterator<Item = Item>) -> Result<Self, LogError> {
        let first = records.first().ok_or(LogError::NotStarted)?;
        let Event::Started(started) = &first.record.event else { return Err(LogError::NotStarted) };
        let mut run = Run {
            id,
            config: Arc::new(started.config.clone()),
            number: 1,
            at: first.record.at,
            hash: first.hash,
            head: first.record.head.clone(),
        };
        for sealed in &records[1..] {
            if sealed.record.number != run.number + 1 {
                return Err(RecordError::Gap { expected: run.number + 1, found: sealed.record.number }.into());
            }
            run = advanced(&run, sealed);
        }
        let items = items.into_iter().map(|item| (item.key.clone(), item)).collect();
        Ok(Self { run, records, items })
    }

    /// The record that `input` makes of this run, sealed but not stored.
    pub fn make(&self, input: Input, consumed: Vec<Consumed>, making: Making) -> Result<Sealed, Rejection> {
        let head = self.run.handle(&input)?;
        let record = Record {
            schema: SCHEMA,
            run: self.run.id,
            number: self.run.number + 1,
            at: input.at.max(self.run.at),
            began: input.began,
            made_under: making.made_under,
            attempt: making.attempt,
            maker: making.maker,
            event: input.event,
            consumed,
            books: input.books,
            head,
        };
        Ok(Sealed::seal(record, &self.run.hash))
    }

    /// Takes in a record that was stored.
    pub fn push(&mut self, sealed: Sealed) {
        self.run = advanced(&self.run, &sealed);
        self.records.push(sealed);
    }

    /// The last record.
    pub fn last(&self) -> &Record {
        // `begin` and `fold` both make sure of record 1.
        &self.records[self.records.len() - 1].record
    }

    /// What the run started with.
    pub fn started(&self) -> &Started {
        match &self.records[0].record.event {
            Event::Started(started) => started,
            // `begin` and `fold` both make sure of it.
            other => unreachable!("a log begins with `started`, not `{}`", other.kind()),
        }
    }

    /// Record `number`, if there is one.
    pub fn record(&self, number: u64) -> Option<&Record> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.records.get(index).map(|sealed| &*sealed.record)
    }

    /// The tool and arguments of a call, with a person's changes, and the run it was born in.
    pub fn call(&self, id: CallId) -> Option<Call<'_>> {
        let record = self.record(id.record)?;
        let Event::ModelReplied(replied) = &record.event else { return None };
        let requested = replied.reply.calls.get(id.index as usize)?;
        let edited = self.edited_arguments(id);
        Some(Call { born: record.run, id, tool: &requested.name, arguments: edited.unwrap_or(&requested.arguments) })
    }

    /// True if a runner carries the call out, over the run's workspace.
    pub fn is_sandboxed(&self, id: CallId) -> bool {
        let tool = self.call(id).and_then(|call| self.run.config.tool(call.tool));
        tool.is_some_and(|tool| tool.executor == Executor::Sandbox)
    }

    /// True if the conversation may hold a call of the same tool before this one: one in an earlier record, or in a run
    /// before this one. Calls of the same reply do not count: they are made at the same time.
    pub fn has_called_before(&self, id: CallId) -> bool {
        let name = |id: CallId| match &self.record(id.record)?.event {
            Event::ModelReplied(replied) => replied.reply.calls.get(id.index as usize).map(|call| call.name.as_str()),
            _ => None,
        };
        let Some(name) = name(id) else { return self.started().history.is_some() };
        let called = |sealed: &Sealed| match &sealed.record.event {
            Event::ModelReplied(replied) => replied.reply.calls.iter().any(|call| call.name == name),
            _ => false,
        };
        let earlier = self.records.iter().take_while(|sealed| sealed.record.number < id.record);
        self.started().history.is_some() || earlier.into_iter().any(called)
    }

    /// The arguments that a person gave a call in place of the model's.
    pub(crate) fn edited_arguments(&self, id: CallId) -> Option<&str> {
        self.turn(id).iter().rev().find_map(|sealed| match &sealed.record.event {
            Event::Decided(decided) if decided.call == id => match &decided.decision {
                Decision::Edit { arguments } => Some(arguments.as_str()),
                _ => None,
            },
            _ => None,
        })
    }

    /// What the log says came of a call: the latest word, if a person resolved it.
    pub fn observation(&self, id: CallId) -> Option<Observation> {
        self.turn(id).iter().rev().find_map(|sealed| match &sealed.record.event {
            Event::ModelReplied(replied) => replied.observations.iter().find(|observation| observation.call == id).cloned(),
            Event::Observed(observed) => observed.observations.iter().find(|observation| observation.call == id).cloned(),
            Event::Forked(forked) => forked.carried.iter().find(|observation| observation.call == id).cloned(),
            Event::Decided(decided) if decided.call == id => {
                decided.decision.outcome().map(|outcome| Observation::free(id, outcome))
            }
            _ => None,
        })
    }

    /// The records that can say something of a call: from the reply that asked for it up to the next reply.
    fn turn(&self, id: CallId) -> &[Sealed] {
        let from = usize::try_from(id.record.saturating_sub(1)).unwrap_or(usize::MAX).min(self.records.len());
        let records = &self.records[from..];
        let next = records.iter().skip(1).position(|sealed| matches!(sealed.record.event, Event::ModelReplied(_)));
        &records[..next.map_or(records.len(), |next| next + 1)]
    }

    /// The result item of a call, if one was written.
    pub fn result(&self, call: CallId) -> Option<&Observation> {
        match &self.items.get(&ItemKey::Result { call })?.body {
            ItemBody::Result { observation } => Some(observation),
            _ => None,
        }
    }

    /// The newest snapshot of the workspace that is known, in the log or beside it.
    pub fn workspace(&self) -> Option<Snapshot> {
        let beside = self.items.values().filter_map(|item| match &item.body {
            ItemBody::Result { observation } => observation.workspace,
            _ => None,
        });
        beside.max().max(self.run.head.workspace)
    }

    /// Bytes that passed between code of the run and the world outside, as far as is known, in the log or beside it.
    pub fn egress_bytes(&self) -> u64 {
        let waits = |call: CallId| self.run.head.due.calls().iter().any(|one| one.id == call && !one.state.is_over());
        let beside = self.items.values().filter_map(|item| match &item.body {
            ItemBody::Result { observation } if waits(observation.call) => observation.egress.as_ref(),
            _ => None,
        });
        beside.fold(self.run.head.totals.egress_bytes, |sum, passed| sum.saturating_add(passed.bytes()))
    }

    /// The final answer, once the run is done.
    pub fn answer(&self) -> Option<&str> {
        match &self.last().event {
            Event::ModelReplied(replied) if self.run.head.status == crate::Status::Done => Some(&replied.reply.text),
            _ => None,
        }
    }

    /// The first `number` records as the log of another run: what a fork begins with.
    pub fn prefix(&self, id: RunId, number: u64) -> Result<Self, LogError> {
        let records = self.records.iter().take(usize::try_from(number).unwrap_or(usize::MAX)).cloned().collect();
        Self::fold(id, records, [])
    }

    /// What a fork at record `number` has to know of the calls that were pending there: the origin's later word on them,
    /// and its results. A call that was sent and has no receipt yet is not among them: the fork waits for its fence like
    /// the origin, and learns the receipt or that the outcome is unknown.
    pub fn carried(&self, number: u64) -> Vec<Observation> {
        let Some(record) = self.record(number) else { return Vec::new() };
        let pending = record.head.due.calls().iter().filter(|call| call.state != crate::CallState::Done);
        let known = |call: CallId| self.observation(call).or_else(|| self.result(call).cloned());
        pending.filter_map(|call| known(call.id)).map(|observation| self.told_of_edit(observation)).collect()
    }

    /// An observation that says with which arguments the call was made, if a person changed them.
    fn told_of_edit(&self, mut observation: Observation) -> Observation {
        if let Some(arguments) = self.edited_arguments(observation.call)
            && let crate::Outcome::Ok { text } | crate::Outcome::Error { text, .. } = &mut observation.outcome
        {
            *text = format!("{} {arguments}\n{text}", crate::transcript::EDITED_NOTE);
        }
        observation
    }

    /// Attempts that records have put on the books.
    pub fn booked(&self) -> impl Iterator<Item = &Booked> {
        self.records.iter().filter(|sealed| sealed.record.run == self.run.id).flat_map(|sealed| &sealed.record.books)
    }

    /// True if a record of this run consumed the item. Records that a fork shares with its origin consumed the origin's.
    pub fn is_consumed(&self, key: &ItemKey) -> bool {
        let own = self.records.iter().rev().take_while(|sealed| sealed.record.run == self.run.id);
        own.flat_map(|sealed| &sealed.record.consumed).any(|consumed| consumed.key == *key)
    }
}

/// A tool call as it is to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    /// The run whose record asked for it.
    pub born: RunId,
    /// Which call.
    pub id: CallId,
    /// Name of the tool.
    pub tool: &'a str,
    /// Arguments: a JSON object.
    pub arguments: &'a str,
}

impl Call<'_> {
    /// The key under which repeating the call is harmless: from the run its record was born in, so that a fork repeats
    /// the call of its origin and does not make a new one.
    pub fn idempotency_key(&self) -> String {
        format!("{}/{}", self.born, self.id)
    }
}

fn advanced(run: &Run, sealed: &Sealed) -> Run {
    Run {
        id: run.id,
        config: run.config_after(&sealed.record.event),
        number: sealed.record.number,
        at: sealed.record.at,
        hash: sealed.hash,
        head: sealed.record.head.clone(),
    }
}
