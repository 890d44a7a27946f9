//! Claims that need not be durable.
//!
//! Under an exclusive lock every claimant dies with the process, so a claim that is lost with it can be made up at the
//! next start from the record that made the call due (see `recover`). That holds for one claim per due record whose
//! record before it was committed by this owner; any other claim is stored like every item.

use errand_core::{Item, ItemKey, Record};
use std::collections::BTreeMap;

/// Claims and voids of one run that are only in memory, all for the record that is due. At most one of the claims is
/// not void.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunClaims {
    items: BTreeMap<ItemKey, Item>,
}

/// What is known of the stored part of a run when a claim or void arrives.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Number of its last record.
    pub(crate) head: u64,
    /// True if this owner committed that record.
    pub(crate) head_is_ours: bool,
    /// The stored item under the key that arrives.
    pub(crate) taken: Option<Item>,
    /// True if a stored claim for the same record is not void.
    pub(crate) open_stored: bool,
}

/// What happens to a claim or void that arrives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// Its key is taken, by this item.
    Taken(Box<Item>),
    /// It was taken into memory.
    InMemory,
    /// It has to be stored, after these that were only in memory until now.
    Store(Vec<Item>),
}

impl RunClaims {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn get(&self, key: &ItemKey) -> Option<&Item> {
        self.items.get(key)
    }

    pub(crate) fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.values()
    }

    /// Decides on an item of any kind and takes it in, if memory is where it belongs.
    pub(crate) fn admit(&mut self, item: &Item, facts: Facts) -> Admitted {
        if let Some(taken) = facts.taken.or_else(|| self.items.get(&item.key).cloned()) {
            return Admitted::Taken(Box::new(taken));
        }
        match item.key {
            ItemKey::Claim { record, .. } => {
                if record == facts.head + 1 && facts.head_is_ours && !facts.open_stored && self.open().next().is_none() {
                    self.items.insert(item.key.clone(), item.clone());
                    return Admitted::InMemory;
                }
                Admitted::Store(self.take_open())
            }
            ItemKey::Void { record, attempt } if self.items.contains_key(&ItemKey::Claim { record, attempt }) => {
                self.items.insert(item.key.clone(), item.clone());
                Admitted::InMemory
            }
            ItemKey::Waste { record, attempt } => {
                let claim = self.items.remove(&ItemKey::Claim { record, attempt });
                let void = self.items.remove(&ItemKey::Void { record, attempt });
                Admitted::Store(claim.into_iter().chain(void).collect())
            }
            _ => Admitted::Store(Vec::new()),
        }
    }

    /// The record they are for is committed: gives back those that have to be stored, since it did not book them.
    pub(crate) fn settle(&mut self, record: &Record) -> Vec<Item> {
        let open = self.take_open();
        self.items.clear();
        let is_booked = |item: &Item| {
            record.books.iter().any(|booked| item.key == ItemKey::Claim { record: booked.record, attempt: booked.attempt })
        };
        open.into_iter().filter(|item| !is_booked(item)).collect()
    }

    /// Takes out the claims that are not void.
    pub(crate) fn take_open(&mut self) -> Vec<Item> {
        let keys: Vec<ItemKey> = self.open().cloned().collect();
        keys.iter().filter_map(|key| self.items.remove(key)).collect()
    }

    fn open(&self) -> impl Iterator<Item = &ItemKey> {
        self.items.keys().filter(|key| match key {
            ItemKey::Claim { record, attempt } => {
                !self.items.contains_key(&ItemKey::Void { record: *record, attempt: *attempt })
            }
            _ => false,
        })
    }
}

/// True if a claim for `record` among `items` is not void.
pub(crate) fn has_open(items: &BTreeMap<ItemKey, Item>, record: u64) -> bool {
    let claims = ItemKey::Claim { record, attempt: 0 }..=ItemKey::Claim { record, attempt: u32::MAX };
    items.range(claims).any(|(key, _)| match key {
        ItemKey::Claim { attempt, .. } => !items.contains_key(&ItemKey::Void { record, attempt: *attempt }),
        _ => false,
    })
}
