//! Keys over heads in memory: who gets in, who does not, and what is left behind.

use crate::form::sealed;
use crate::{Error, Gate, KEYS_MAX, KeyId, Keys, Principal, Refusal, RootKey, Wanted, list, revoke};
use async_trait::async_trait;
use errand_core::Timestamp;
use errand_engine::ports::{Heads, PortError};
use futures::executor::block_on;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const HOUR: u64 = 3_600_000;

/// Heads in memory that count what they are asked.
#[derive(Default)]
struct Memory {
    all: Mutex<BTreeMap<String, Vec<u8>>>,
    reads: AtomicUsize,
    writes: AtomicUsize,
    away: Mutex<bool>,
}

impl Memory {
    fn text(&self) -> String {
        let all = self.all.lock().unwrap();
        all.iter().map(|(name, bytes)| format!("{name} {}\n", String::from_utf8_lossy(bytes))).collect()
    }

    fn asked(&self) -> (usize, usize) {
        (self.reads.swap(0, Ordering::SeqCst), self.writes.swap(0, Ordering::SeqCst))
    }
}

#[async_trait]
impl Heads for Memory {
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PortError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if *self.away.lock().unwrap() {
            return Err(PortError::Retry { message: "away".to_owned() });
        }
        Ok(self.all.lock().unwrap().get(name).cloned())
    }

    async fn replace(&self, name: &str, expected: Option<&[u8]>, bytes: &[u8]) -> Result<bool, PortError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        let mut all = self.all.lock().unwrap();
        let fits = all.get(name).map(Vec::as_slice) == expected;
        if fits {
            all.insert(name.to_owned(), bytes.to_vec());
        }
        Ok(fits)
    }

    async fn remove(&self, name: &str, expected: &[u8]) -> Result<bool, PortError> {
        let mut all = self.all.lock().unwrap();
        let fits = all.get(name).map(Vec::as_slice) == Some(expected);
        if fits {
            all.remove(name);
        }
        Ok(fits)
    }

    async fn list(&self, kind: &str, _: Option<&str>, limit: usize) -> Result<Vec<(String, Vec<u8>)>, PortError> {
        let all = self.all.lock().unwrap();
        let of_kind = all.iter().filter(|(name, _)| name.starts_with(&format!("{kind}.")));
        Ok(of_kind.take(limit).map(|(name, bytes)| (name.clone(), bytes.clone())).collect())
    }
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + millis)
}

fn keys() -> (Arc<Memory>, Keys) {
    let memory = Arc::new(Memory::default());
    (Arc::clone(&memory), Keys::new(memory, RootKey::new([7; 32])))
}

fn wanted(tenant: &str) -> Wanted {
    Wanted { tenant: tenant.parse().unwrap(), ..Wanted::default() }
}

fn make(keys: &Keys, wanted: Wanted) -> (String, KeyId) {
    let (issued, info) = block_on(keys.create(wanted, at(0))).unwrap();
    (issued.reveal().to_owned(), info.id)
}

#[test]
fn a_key_lets_in_as_its_tenant_and_nothing_of_it_is_stored() {
    let (memory, keys) = keys();
    let (text, id) = make(&keys, wanted("acme"));
    let principal = block_on(Gate::closed(keys.clone()).admit(Some(&text), at(1))).unwrap();
    assert_eq!(principal, Principal { tenant: "acme".parse().unwrap(), key: Some(id.clone()) });
    let secret = &text[24..];
    assert!(memory.text().contains(id.as_str()) && !memory.text().contains(secret), "{}", memory.text());
    // Without the root key the stored is worth nothing.
    let other = Keys::new(memory, RootKey::new([8; 32]));
    assert_eq!(block_on(other.check(&text, at(1))), Err(Refusal::Unknown));
}

#[test]
fn who_has_no_good_key_is_told_why_and_a_wrong_id_costs_what_a_wrong_secret_costs() {
    let (memory, keys) = keys();
    let (text, _) = make(&keys, Wanted { lives_ms: Some(HOUR), ..wanted("acme") });
    let (other, _) = make(&keys, wanted("acme"));
    let gate = Gate::closed(keys.clone());
    let told = |text: Option<&str>, now| block_on(gate.admit(text, at(now))).map(|_| ()).err();
    assert_eq!(told(None, 1), Some(Refusal::Missing));
    for malformed in ["", "none", "sk-abc", &text[..70], &text.to_uppercase()] {
        assert_eq!(told(Some(malformed), 1), Some(Refusal::Malformed), "{malformed}");
    }
    let wrong_secret = sealed(&format!("{}{}", &text[..24], &other[24..64]));
    let wrong_id = sealed(&format!("errand_{}{}", "0123456789abcdef", &text[23..64]));
    memory.asked();
    assert_eq!(told(Some(&wrong_secret), 1), Some(Refusal::Unknown));
    let for_secret = memory.asked();
    assert_eq!(told(Some(&wrong_id), 1), Some(Refusal::Unknown));
    assert_eq!((for_secret, memory.asked()), ((1, 0), (1, 0)));
    assert_eq!(told(Some(&text), HOUR - 1), None);
    assert_eq!(told(Some(&text), HOUR), Some(Refusal::Expired));
    *memory.away.lock().unwrap() = true;
    assert!(matches!(told(Some(&text), 1), Some(Refusal::Unavailable { .. })), "who cannot be checked is not let in");
}

#[test]
fn a_revoked_key_stays_revoked_whoever_used_it_meanwhile() {
    let (memory, keys) = keys();
    let (text, id) = make(&keys, wanted("acme"));
    let before = block_on(keys.check(&text, at(1))).unwrap();
    assert_eq!(block_on(Gate::closed(keys.clone()).readmit(&before, at(1))), Ok(()));
    let info = block_on(revoke(&*memory, &id, at(5))).unwrap();
    assert_eq!((info.revoked, info.used), (Some(at(5)), Some(at(1))));
    for now in [6, 10 * HOUR] {
        assert_eq!(block_on(keys.check(&text, at(now))), Err(Refusal::Revoked));
        assert_eq!(block_on(Gate::closed(keys.clone()).readmit(&before, at(now))), Err(Refusal::Revoked));
    }
    assert_eq!(block_on(revoke(&*memory, &id, at(9))).unwrap().revoked, Some(at(5)), "the first time counts");
    let nobody = "0123456789abcdef".parse().unwrap();
    assert_eq!(block_on(revoke(&*memory, &nobody, at(9))).unwrap_err().code(), "key_not_found");
}

/// A use that was being written down while the key was revoked must not bring it back.
#[test]
fn a_note_of_use_does_not_undo_a_revocation() {
    struct Late(Arc<Memory>, Mutex<Option<KeyId>>);
    #[async_trait]
    impl Heads for Late {
        async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PortError> {
            self.0.read(name).await
        }
        async fn replace(&self, name: &str, expected: Option<&[u8]>, bytes: &[u8]) -> Result<bool, PortError> {
            let first = self.1.lock().unwrap().take();
            if let Some(id) = first {
                revoke(&*self.0, &id, at(2)).await.unwrap();
            }
            self.0.replace(name, expected, bytes).await
        }
        async fn remove(&self, name: &str, expected: &[u8]) -> Result<bool, PortError> {
            self.0.remove(name, expected).await
        }
        async fn list(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Vec<u8>)>, PortError> {
            self.0.list(kind, after, limit).await
        }
    }
    let (memory, keys) = keys();
    let (text, id) = make(&keys, wanted("acme"));
    let late = Keys::new(Arc::new(Late(memory, Mutex::new(Some(id)))), RootKey::new([7; 32]));
    assert!(block_on(late.check(&text, at(1))).is_ok(), "it was good when it was looked at");
    assert_eq!(block_on(keys.check(&text, at(3))), Err(Refusal::Revoked));
}

#[test]
fn use_is_written_down_once_an_hour() {
    let (memory, keys) = keys();
    let (text, _) = make(&keys, wanted("acme"));
    memory.asked();
    for now in [1, 2, HOUR, HOUR + 1] {
        block_on(keys.check(&text, at(now))).unwrap();
    }
    assert_eq!(memory.asked(), (4, 2));
    assert_eq!(block_on(list(&*memory)).unwrap()[0].used, Some(at(HOUR + 1)));
}

#[test]
fn a_gate_that_is_ajar_takes_what_is_no_key_for_none() {
    let (memory, keys) = keys();
    let (text, id) = make(&keys, wanted("acme"));
    let gate = Gate::ajar(keys.clone());
    let admitted = |gate: &Gate, given: Option<&str>| block_on(gate.admit(given, at(1)));
    for given in [None, Some("none"), Some("sk-123"), Some("")] {
        assert_eq!(admitted(&gate, given), Ok(Principal::local()), "{given:?}");
    }
    assert_eq!(admitted(&gate, Some(&text)).unwrap().tenant.as_str(), "acme");
    assert_eq!(admitted(&gate, Some(&text[..70])), Err(Refusal::Malformed));
    block_on(revoke(&*memory, &id, at(2))).unwrap();
    assert_eq!(admitted(&gate, Some(&text)), Err(Refusal::Revoked));
    assert_eq!(admitted(&Gate::open(), Some(&text)), Err(Refusal::Unknown));
    assert_eq!(admitted(&Gate::open(), None), Ok(Principal::local()));
}

#[test]
fn keys_are_listed_and_bounded_and_the_useless_make_way() {
    let (memory, keys) = keys();
    let ids: Vec<KeyId> = (0..KEYS_MAX).map(|_| make(&keys, Wanted { lives_ms: Some(HOUR), ..wanted("a") }).1).collect();
    assert_eq!(block_on(keys.create(wanted("a"), at(1))).unwrap_err().code(), "key_limit");
    block_on(revoke(&*memory, &ids[3], at(2))).unwrap();
    block_on(keys.create(wanted("b"), at(3))).unwrap();
    let left = block_on(list(&*memory)).unwrap();
    assert_eq!(left.len(), KEYS_MAX);
    assert!(!left.iter().any(|key| key.id == ids[3]));
    block_on(keys.create(wanted("b"), at(2 * HOUR))).unwrap();
    assert_eq!(block_on(list(&*memory)).unwrap().len(), KEYS_MAX);
    memory.all.lock().unwrap().insert("key.zzzzzzzzzzzzzzzz".to_owned(), b"{}".to_vec());
    assert_eq!(block_on(list(&*memory)).unwrap_err().code(), "key_damaged");
}

#[test]
fn what_cannot_be_a_key_is_refused() {
    let (_, keys) = keys();
    let code = |wanted: Wanted| block_on(keys.create(wanted, at(0))).unwrap_err().code();
    for name in ["a\nb", "\u{1b}[31m", &"x".repeat(101)] {
        assert_eq!(code(Wanted { name: Some(name.to_owned()), ..Wanted::default() }), "key_name_invalid", "{name:?}");
    }
    assert_eq!(code(Wanted { lives_ms: Some(0), ..Wanted::default() }), "key_expires_at_once");
    let forever = Wanted { lives_ms: Some(u64::MAX), ..Wanted::default() };
    assert!(block_on(keys.create(forever, at(0))).is_ok());
    assert!(format!("{:?}", RootKey::new([7; 32])).contains('…'));
    let _: &dyn std::error::Error = &Error::TooMany;
}
