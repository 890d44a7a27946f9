//! A real store beside the simulated one. It is asked the same, in the same order, and must answer the same: the simulated
//! one is what is right, and the engine under faults is who asks.

use crate::world::State;
use errand_core::{Hash, Item};
use errand_engine::ports::{DueEntry, Loaded, PortError, Store};
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Tries of a question that cannot be answered for now.
const TRIES: usize = 50;

/// Something that is asked of the real store.
pub type Asked<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A real store, and whoever can wait for its answers: the simulated world has no runtime.
#[derive(Clone)]
pub struct Twin {
    /// The store. Empty at first.
    pub store: Arc<dyn Store>,
    /// Drives what is asked to its end.
    pub drive: Arc<dyn Fn(Asked<'_>) + Send + Sync>,
}

impl Twin {
    /// The answer, asked for until there is one.
    fn ask<T: Send, F: Future<Output = Result<T, PortError>> + Send>(
        &self,
        ask: impl Fn(Arc<dyn Store>) -> F,
    ) -> Result<T, PortError> {
        let mut answer = Err(PortError::Retry { message: "nothing was asked".to_owned() });
        for _ in 0..TRIES {
            let question = ask(Arc::clone(&self.store));
            (self.drive)(Box::pin(async { answer = question.await }));
            if !matches!(answer, Err(PortError::Retry { .. })) {
                break;
            }
        }
        answer
    }
}

/// Has the twin, if there is one, answer what the simulated store `told`; one that says otherwise is a violation.
pub(crate) fn compare<T: Debug + Send, F: Future<Output = Result<T, PortError>> + Send>(
    state: &mut State,
    told: T,
    agree: impl Fn(&T, &T) -> bool,
    ask: impl Fn(Arc<dyn Store>) -> F,
) -> T {
    let Some(twin) = state.twin.clone() else { return told };
    match twin.ask(ask) {
        Ok(asked) if agree(&told, &asked) => {}
        asked => state.truth.violate(format!("the real store answers {asked:?} where {told:?} is right")),
    }
    told
}

/// What a store has of a run, to be compared.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    due: Option<DueEntry>,
    number: u64,
    hashes: Vec<Hash>,
    items: Vec<Item>,
}

impl Seen {
    pub(crate) fn of(loaded: &Loaded) -> Self {
        let log = &loaded.log;
        let hashes = log.records.iter().map(|sealed| sealed.hash).collect();
        Self { due: loaded.due, number: log.run.number, hashes, items: log.items.values().cloned().collect() }
    }
}
