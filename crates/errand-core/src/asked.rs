//! A request that is made from the one before it: what was said is written, hashed and sent in form once, not once per turn.

use crate::transcript::answered;
use crate::{Due, Event, Hash, Message, ModelRequest, ModelTask, RunConfig, RunId, RunLog};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A request of a run, with what it takes to make the next one from it.
#[derive(Debug)]
pub struct Asked {
    request: ModelRequest,
    run: RunId,
    config: Arc<RunConfig>,
    /// The record after which it was made.
    number: u64,
    hash: Hash,
}

impl Asked {
    /// What the model is sent.
    pub fn request(&self) -> &ModelRequest {
        &self.request
    }
}

impl RunLog {
    /// The request that is due, like [`RunLog::request`], ready to be gone on from.
    pub fn ask(&self, history: &[Message]) -> Option<Asked> {
        let request = self.request(history)?;
        let Self { run, .. } = self;
        Some(Asked { request, run: run.id, config: Arc::clone(&run.config), number: run.number, hash: run.hash })
    }

    /// The request that is due, made by adding to an earlier one of the run what was said since. `None` where it does not
    /// begin with that one, and then it must be made anew.
    ///
    /// A call of a model is due only when every call of the turn before has its last word, so what was said by then
    /// never changes.
    pub fn ask_on(&self, mut earlier: Asked) -> Option<Asked> {
        let Due::Model { max_output_tokens, task: ModelTask::Turn, .. } = self.run.head.due else { return None };
        let last = self.records.get(usize::try_from(earlier.number.checked_sub(1)?).ok()?)?;
        let is_same_run = self.run.id == earlier.run && last.hash == earlier.hash;
        let is_same_way = Arc::ptr_eq(&self.run.config, &earlier.config) && self.run.model().name == earlier.request.model;
        if !is_same_run || !is_same_way || self.is_shortened_after(earlier.number) {
            return None;
        }
        let mut said = Vec::new();
        self.say(earlier.number, self.run.number, &mut said);
        earlier.request.messages.extend(answered(said));
        earlier.request.max_output_tokens = max_output_tokens;
        (earlier.number, earlier.hash) = (self.run.number, self.run.hash);
        // The history of a thread is not at hand here.
        debug_assert!(self.started().history.is_some() || self.request(&[]).as_ref() == Some(&earlier.request));
        Some(earlier)
    }

    /// Whether the conversation was shortened after record `number`, or was about to be.
    fn is_shortened_after(&self, number: u64) -> bool {
        let later = self.records.iter().rev().map(|sealed| &*sealed.record).take_while(|record| record.number >= number);
        later.into_iter().any(|record| {
            let shortened = matches!(record.event, Event::Compacted(_)) && record.number > number;
            shortened || !matches!(record.head.due.task(), None | Some(ModelTask::Turn))
        })
    }
}

/// Work done on the messages of a request, for the one that goes on from it. It is no part of the request: not stored, not
/// compared, and not copied, since a copy may be changed.
#[derive(Default)]
pub struct Memo(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// The digest of everything up to so many messages.
    digest: Option<(usize, Sha256)>,
    /// The tools as JSON.
    tools: Option<Vec<u8>>,
    /// So many messages in the form of a provider.
    form: Option<(String, usize, Vec<u8>)>,
    /// What a provider sends besides them.
    head: Option<(String, Vec<u8>)>,
}

impl Memo {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // What is kept is taken out while it is worked on, so that a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Memo {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Memo {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Memo {}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
    }
}

/// What stands after messages and tools in the bytes that are hashed.
#[derive(Serialize)]
struct Tail<'a> {
    max_output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: &'a Option<crate::OutputSchema>,
    cache_key: &'a str,
}

impl ModelRequest {
    /// Digest of the request as JSON, recorded with the reply so that a replay proves it asked the same.
    ///
    /// The bytes are those of serialising the whole; the messages that were hashed for an earlier request are not hashed
    /// again, and its tools are not written again.
    pub fn digest(&self) -> Hash {
        let kept = self.memo.kept().digest.take().filter(|(messages, _)| *messages <= self.messages.len());
        let (known, mut hasher) = kept.unwrap_or_else(|| (0, Sha256::new()));
        // Plain data with text keys only, so serialising it cannot fail.
        let mut bytes = Vec::new();
        if known == 0 {
            bytes.extend_from_slice(b"{\"model\":");
            bytes.extend(serde_json::to_vec(&self.model).unwrap_or_default());
            bytes.extend_from_slice(b",\"messages\":[");
        }
        for (index, message) in self.messages.iter().enumerate().skip(known) {
            if index > 0 {
                bytes.push(b',');
            }
            let _ = serde_json::to_writer(&mut bytes, message);
        }
        hasher.update(&bytes);
        // A request without messages begins anew each time: its head is hashed when the number known is 0.
        self.memo.kept().digest = Some((self.messages.len(), hasher.clone())).filter(|(messages, _)| *messages > 0);
        hasher.update(b"],\"tools\":");
        hasher.update(self.memo.kept().tools.get_or_insert_with(|| serde_json::to_vec(&self.tools).unwrap_or_default()));
        let Self { max_output_tokens, output, cache_key, .. } = self;
        let tail = Tail { max_output_tokens: *max_output_tokens, output, cache_key };
        let tail = serde_json::to_vec(&tail).unwrap_or_default();
        hasher.update(b",");
        // Its opening brace is that of the whole.
        hasher.update(tail.get(1..).unwrap_or_default());
        Hash(hasher.finalize().into())
    }

    /// What `make` makes of the model and the tools, made once for all requests that go on from each other. `form` names
    /// all else that it depends on.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn remember<E>(&self, form: &str, make: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Vec<u8>, E> {
        if let Some((_, head)) = self.memo.kept().head.as_ref().filter(|(known, _)| known == form) {
            return Ok(head.clone());
        }
        let head = make()?;
        self.memo.kept().head = Some((form.to_owned(), head.clone()));
        Ok(head)
    }

    /// Appends the messages to `bytes` in the form of a provider, with commas between them. Each is written by `write`
    /// once: what was written for an earlier request is copied. `form` names all that `write` depends on besides the
    /// message.
    pub fn append_messages(&self, form: &str, bytes: &mut Vec<u8>, mut write: impl FnMut(&Message, &mut Vec<u8>)) {
        let kept = self.memo.kept().form.take();
        let kept = kept.filter(|(known, messages, _)| known == form && *messages <= self.messages.len());
        let (form, known, mut written) = kept.unwrap_or_else(|| (form.to_owned(), 0, Vec::new()));
        for (index, message) in self.messages.iter().enumerate().skip(known) {
            if index > 0 {
                written.push(b',');
            }
            write(message, &mut written);
        }
        // With room for what a provider puts behind them.
        bytes.reserve_exact(written.len() + 256);
        bytes.extend_from_slice(&written);
        self.memo.kept().form = Some((form, self.messages.len(), written));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(messages: usize) -> ModelRequest {
        ModelRequest {
            model: "m\"".to_owned(),
            messages: (0..messages).map(|index| Message::user(format!("said {index}"))).collect(),
            tools: Vec::new(),
            max_output_tokens: 7,
            output: None,
            cache_key: "run".to_owned(),
            memo: Memo::default(),
        }
    }

    fn plain(request: &ModelRequest) -> Hash {
        Hash::of(&serde_json::to_vec(request).unwrap())
    }

    #[test]
    fn the_digest_is_that_of_the_whole_however_it_came_about() {
        let mut growing = request(0);
        for count in 0..4 {
            growing.messages = request(count).messages;
            growing.max_output_tokens = count as u64;
            assert_eq!(growing.digest(), plain(&growing), "{count}");
            assert_eq!(growing.digest(), plain(&growing), "{count} again");
        }
        let copy = ModelRequest { messages: request(2).messages.into_iter().rev().collect(), ..growing.clone() };
        assert_eq!(copy.digest(), plain(&copy));
    }

    #[test]
    fn a_message_is_written_once_for_each_form() {
        let mut growing = request(2);
        let mut writes = 0;
        let mut written = |request: &ModelRequest, form: &str| {
            let mut bytes = b"[".to_vec();
            request.append_messages(form, &mut bytes, |message, bytes| {
                writes += 1;
                bytes.extend_from_slice(message.bytes().to_string().as_bytes());
            });
            (String::from_utf8(bytes).unwrap(), writes)
        };
        assert_eq!(written(&growing, "a"), ("[6,6".to_owned(), 2));
        growing.messages.push(Message::user("more"));
        assert_eq!(written(&growing, "a"), ("[6,6,4".to_owned(), 3));
        assert_eq!(written(&growing, "b"), ("[6,6,4".to_owned(), 6));
        assert_eq!(written(&growing.clone(), "b"), ("[6,6,4".to_owned(), 9));
    }
}
