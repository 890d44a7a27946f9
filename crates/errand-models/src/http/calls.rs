//! Tool calls put together from the fragments they are streamed in.

use errand_core::RequestedCall;
use errand_engine::ports::{Delta, DeltaSink};
use std::collections::HashSet;

/// Most calls in one reply. More are a broken reply; the engine's own limit is far lower.
const CALLS_MAX: usize = 1_024;

/// One fragment of a call, as far as the provider filled it in.
#[derive(Debug, Default)]
pub(crate) struct Fragment<'a> {
    /// Position of the call in the reply.
    pub(crate) index: Option<u64>,
    /// Id of the call.
    pub(crate) id: &'a str,
    /// Name of the tool.
    pub(crate) name: &'a str,
    /// More of the arguments.
    pub(crate) arguments: &'a str,
}

/// The calls of a reply on its way.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    index: Option<u64>,
    call: RequestedCall,
}

impl Calls {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Adds a fragment to the call it belongs to. Fails if there are too many calls.
    pub(crate) fn add(&mut self, fragment: &Fragment<'_>, deltas: &dyn DeltaSink) -> Result<(), TooManyCalls> {
        let call = &mut self.slot(fragment)?.call;
        if call.id.is_empty() {
            call.id.push_str(fragment.id);
        }
        // Some servers repeat the name with each fragment, so only what comes before any argument can belong to it.
        if call.name.is_empty() && !fragment.name.is_empty() {
            call.name.push_str(fragment.name);
            deltas.delta(Delta::Call { name: fragment.name.to_owned() });
        } else if call.arguments.is_empty() && call.name != fragment.name {
            call.name.push_str(fragment.name);
        }
        call.arguments.push_str(fragment.arguments);
        Ok(())
    }

    /// Sets the whole arguments of the call at `index`, where a provider says them once more at the end.
    pub(crate) fn set_arguments(&mut self, index: u64, arguments: &str) {
        if let Some(slot) = self.slots.iter_mut().rev().find(|slot| slot.index == Some(index)) {
            arguments.clone_into(&mut slot.call.arguments);
        }
    }

    /// The calls in order. A missing id is made from `turn`, the number of replies before this one, and the position,
    /// so that the same reply always gets the same; an id given twice is told apart by the position.
    pub(crate) fn finish(mut self, turn: usize) -> Vec<RequestedCall> {
        // Fragments may come interleaved; the provider's own order is that of the indexes.
        self.slots.sort_by_key(|slot| slot.index.unwrap_or(u64::MAX));
        let mut seen = HashSet::new();
        let mut calls: Vec<RequestedCall> = self.slots.into_iter().map(|slot| slot.call).collect();
        for (position, call) in calls.iter_mut().enumerate() {
            if call.id.is_empty() {
                call.id = format!("call_{turn}_{position}");
            }
            while !seen.insert(call.id.clone()) {
                call.id = format!("{}_{position}", call.id);
            }
        }
        calls
    }

    /// The call a fragment belongs to. The index decides, except that a new id under a used index begins a new call
    /// (servers that give every call the index 0); without an index the id decides, and without both the last call is
    /// continued unless a name begins another.
    fn slot(&mut self, fragment: &Fragment<'_>) -> Result<&mut Slot, TooManyCalls> {
        let fits = |slot: &Slot| {
            let same_id = fragment.id.is_empty() || slot.call.id.is_empty() || slot.call.id == fragment.id;
            match fragment.index {
                Some(index) => slot.index == Some(index) && same_id,
                None if !fragment.id.is_empty() => slot.call.id == fragment.id,
                None => fragment.name.is_empty(),
            }
        };
        let position = match self.slots.iter().rposition(fits) {
            Some(position) => position,
            None if self.slots.len() == CALLS_MAX => return Err(TooManyCalls),
            None => {
                let call = RequestedCall { id: String::new(), name: String::new(), arguments: String::new() };
                self.slots.push(Slot { index: fragment.index, call });
                self.slots.len() - 1
            }
        };
        Ok(&mut self.slots[position])
    }
}

/// A reply with more than [`CALLS_MAX`] calls.
#[derive(Debug, thiserror::Error)]
#[error("more than {CALLS_MAX} tool calls in one reply")]
pub(crate) struct TooManyCalls;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fragments: &[(Option<u64>, &str, &str, &str)], expected: &[(&str, &str, &str)]) {
        let mut calls = Calls::default();
        for &(index, id, name, arguments) in fragments {
            calls.add(&Fragment { index, id, name, arguments }, &()).unwrap();
        }
        let calls = calls.finish(2);
        let found: Vec<_> = calls.iter().map(|c| (c.id.as_str(), c.name.as_str(), c.arguments.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn interleaved_fragments_find_their_call() {
        check(
            &[
                (Some(1), "b", "g", ""),
                (Some(0), "a", "f", "{"),
                (Some(1), "", "", "[1"),
                (Some(0), "", "", "}"),
                (Some(1), "", "", "]"),
            ],
            &[("a", "f", "{}"), ("b", "g", "[1]")],
        );
    }

    #[test]
    fn missing_and_repeated_ids_become_stable_unique_ones() {
        check(&[(Some(0), "", "f", "{}"), (Some(1), "", "g", "{}")], &[("call_2_0", "f", "{}"), ("call_2_1", "g", "{}")]);
        check(&[(Some(0), "x", "f", "{}"), (Some(1), "x", "g", "{}")], &[("x", "f", "{}"), ("x_1", "g", "{}")]);
    }

    #[test]
    fn every_call_at_index_0_is_told_apart_by_its_id() {
        check(&[(Some(0), "a", "f", "{}"), (Some(0), "b", "f", "[]")], &[("a", "f", "{}"), ("b", "f", "[]")]);
    }

    #[test]
    fn without_indexes_ids_and_names_decide() {
        check(
            &[
                (None, "", "f", "{"),
                (None, "", "", "}"),
                (None, "", "g", "{}"),
                (None, "z", "h", "1"),
                (None, "z", "h", "2"),
            ],
            &[("call_2_0", "f", "{}"), ("call_2_1", "g", "{}"), ("z", "h", "12")],
        );
    }

    #[test]
    fn names_may_come_in_pieces_or_again_and_again() {
        check(&[(Some(0), "a", "py", ""), (Some(0), "", "thon", ""), (Some(0), "", "", "{}")], &[("a", "python", "{}")]);
        check(&[(Some(0), "a", "f", "{"), (Some(0), "a", "f", "}")], &[("a", "f", "{}")]);
    }

    #[test]
    fn endless_calls_are_refused() {
        let mut calls = Calls::default();
        let result = (0..2_000)
            .try_for_each(|index| calls.add(&Fragment { index: Some(index), name: "f", ..Fragment::default() }, &()));
        assert!(result.is_err());
    }
}
