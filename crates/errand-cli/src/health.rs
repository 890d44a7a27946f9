//! A store that tells when it is broken. The engine gives a message back and tries again, which is right while nobody
//! looks on; whoever does must know that trying again will not help.

use crate::live::Live;
use async_trait::async_trait;
use errand_core::{Item, ItemKey, Record, RunId, Sealed, Timestamp};
use errand_engine::ports::{Commit, DueEntry, Loaded, Page, PortError, Put, RunFilter, Store};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

/// The store below, whose failures that need a person are told.
pub(crate) struct Reporting {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) sender: UnboundedSender<Live>,
}

impl Reporting {
    fn told<T>(&self, answer: Result<T, PortError>) -> Result<T, PortError> {
        if let Err(PortError::Broken { code, message }) = &answer {
            // Nobody may be listening any longer.
            let _ = self.sender.send(Live::Broken { code, message: message.clone() });
        }
        answer
    }
}

#[async_trait]
impl Store for Reporting {
    async fn begin(&self, run: RunId, records: &[Sealed], due: Timestamp) -> Result<Commit, PortError> {
        self.told(self.store.begin(run, records, due).await)
    }

    async fn load(&self, run: RunId) -> Result<Option<Loaded>, PortError> {
        self.store.load(run).await
    }

    async fn last(&self, run: RunId) -> Result<Option<Arc<Record>>, PortError> {
        self.store.last(run).await
    }

    async fn commit(&self, run: RunId, record: &Sealed, wake: Option<Timestamp>) -> Result<Commit, PortError> {
        self.told(self.store.commit(run, record, wake).await)
    }

    async fn put(&self, run: RunId, item: &Item, wake: Option<Timestamp>) -> Result<Put, PortError> {
        self.told(self.store.put(run, item, wake).await)
    }

    async fn item(&self, run: RunId, key: &ItemKey) -> Result<Option<Item>, PortError> {
        self.store.item(run, key).await
    }

    async fn move_due(&self, run: RunId, seen: Option<DueEntry>, at: Option<Timestamp>) -> Result<bool, PortError> {
        self.told(self.store.move_due(run, seen, at).await)
    }

    async fn overdue(&self, now: Timestamp, limit: u32) -> Result<Vec<RunId>, PortError> {
        self.store.overdue(now, limit).await
    }

    async fn list(&self, filter: &RunFilter) -> Result<Page, PortError> {
        self.store.list(filter).await
    }
}
