//! Results of pure calls, given again for a while. In memory, bounded; the least recently used go first.

use errand_core::{Hash, Timestamp, ToolSpec};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most results kept.
const ENTRIES_MAX: usize = 512;
/// Most text kept, in bytes.
const BYTES_MAX: usize = 16 << 20;

/// The results.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    by_key: HashMap<Hash, Entry>,
    bytes: usize,
    /// Counts uses: the entry with the lowest is the least recently used.
    clock: u64,
}

struct Entry {
    text: String,
    at: Timestamp,
    used: u64,
}

/// A result that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// What it says.
    pub(crate) text: String,
    /// How old it is, in seconds.
    pub(crate) age_s: u64,
}

/// What a call is known by: the tool as it is now, the arguments whatever the order of their keys, and how much of the
/// result may be shown.
pub(crate) fn key(spec: &ToolSpec, arguments: &Value, observation_bytes: u64) -> Hash {
    let spec = serde_json::to_string(spec).unwrap_or_default();
    let mut text = format!("{}\n{observation_bytes}\n", Hash::of(spec.as_bytes()));
    canonical(arguments, &mut text);
    Hash::of(text.as_bytes())
}

/// JSON with sorted keys, whatever the map of this build keeps.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (key, value) in entries {
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

impl Cache {
    /// The result of an equal call that is not older than `ttl_s` seconds.
    pub(crate) fn get(&self, key: &Hash, ttl_s: u32, now: Timestamp) -> Option<Known> {
        let mut entries = self.lock();
        let entries = &mut *entries;
        let entry = entries.by_key.get_mut(key)?;
        let age_ms = now.since(entry.at);
        // One from the future is of a clock that was set back: nobody knows how old it is.
        if age_ms >= u64::from(ttl_s) * 1000 || entry.at > now {
            entries.remove(key);
            return None;
        }
        entries.clock += 1;
        entry.used = entries.clock;
        Some(Known { text: entry.text.clone(), age_s: age_ms / 1000 })
    }

    /// Keeps a result, and forgets others to make room.
    pub(crate) fn put(&self, key: Hash, text: &str, now: Timestamp) {
        if text.len() > BYTES_MAX / 4 {
            return;
        }
        let mut entries = self.lock();
        entries.remove(&key);
        while entries.by_key.len() >= ENTRIES_MAX || entries.bytes + text.len() > BYTES_MAX {
            let Some(oldest) = entries.by_key.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key) else { break };
            entries.remove(&oldest);
        }
        entries.clock += 1;
        let used = entries.clock;
        entries.bytes += text.len();
        entries.by_key.insert(key, Entry { text: text.to_owned(), at: now, used });
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn remove(&mut self, key: &Hash) {
        if let Some(entry) = self.by_key.remove(key) {
            self.bytes -= entry.text.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;
    use serde_json::json;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn hash(number: usize) -> Hash {
        Hash::of(&number.to_be_bytes())
    }

    #[test]
    fn a_result_is_given_again_until_it_is_too_old() {
        let cache = Cache::default();
        cache.put(hash(1), "found", NOW);
        let known = Known { text: "found".to_owned(), age_s: 299 };
        assert_eq!(cache.get(&hash(1), 300, NOW.plus(299_999)), Some(known));
        assert_eq!(cache.get(&hash(2), 300, NOW), None);
        assert_eq!(cache.get(&hash(1), 300, NOW.plus(300_000)), None);
        cache.put(hash(1), "found", NOW);
        assert_eq!(cache.get(&hash(1), 300, Timestamp::from_millis(999_999)), None, "the clock was set back");
    }

    #[test]
    fn the_least_recently_used_make_room() {
        let cache = Cache::default();
        for number in 0..ENTRIES_MAX {
            cache.put(hash(number), "x", NOW);
        }
        assert!(cache.get(&hash(0), 1, NOW).is_some());
        cache.put(hash(9999), "x", NOW);
        assert!(cache.get(&hash(0), 1, NOW).is_some() && cache.get(&hash(1), 1, NOW).is_none());
        assert_eq!(cache.lock().by_key.len(), ENTRIES_MAX);
    }

    #[test]
    fn no_more_bytes_are_kept_than_fit() {
        let cache = Cache::default();
        for number in 0..40 {
            cache.put(hash(number), &"x".repeat(1 << 20), NOW);
            cache.put(hash(number), &"x".repeat(1 << 20), NOW);
        }
        cache.put(hash(100), &"x".repeat(BYTES_MAX), NOW);
        let entries = cache.lock();
        assert_eq!((entries.by_key.len(), entries.bytes), (16, BYTES_MAX));
    }

    #[test]
    fn a_call_is_known_by_the_tool_and_the_arguments_in_any_order() {
        let spec = |name: &str| Registry::built_in().unwrap().specs(&[name]).unwrap().remove(0);
        let one: Value = serde_json::from_str(r#"{"a": 1, "b": {"c": [1, 2], "d": null}}"#).unwrap();
        let same: Value = serde_json::from_str(r#"{"b": {"d": null, "c": [1, 2]}, "a": 1}"#).unwrap();
        let known = key(&spec("echo"), &one, 100);
        assert_eq!(known, key(&spec("echo"), &same, 100));
        assert_ne!(known, key(&spec("wait"), &one, 100));
        assert_ne!(known, key(&spec("echo"), &one, 200));
        assert_ne!(known, key(&spec("echo"), &json!({"a": 1, "b": {"c": [2, 1], "d": null}}), 100));
        let changed = ToolSpec { timeout_ms: 1, ..spec("echo") };
        assert_ne!(known, key(&changed, &one, 100));
    }
}
