//! A request that is made from the one before it: what was said is written, hashed and sent in form once, not once per turn.

use crate::transcript::answered;
use crate::{Due, Event, Hash, Message, ModelRequest, ModelTask, RunConfig, RunId, RunLog};
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
    digest: Option<(usize, Feed)>,
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

/// Takes in values so that different ones never give the same bytes: a text goes with its length before it.
#[derive(Clone)]
struct Feed(Sha256);

impl Feed {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text);
    }

    fn texts<const N: usize>(&mut self, texts: [&str; N]) {
        texts.into_iter().for_each(|text| self.text(text));
    }

    fn message(&mut self, message: &Message) {
        match message {
            Message::System { text } => self.texts(["system", text]),
            Message::User { text, images } => {
                self.texts(["user", text]);
                self.number(images.len() as u64);
                for image in images {
                    self.text(&image.media_type);
                    self.number(image.bytes);
                    self.0.update(image.sha256.0);
                }
            }
            Message::Assistant { text, calls, opaque } => {
                self.texts(["assistant", text]);
                self.number(calls.len() as u64);
                calls.iter().for_each(|call| self.texts([&call.id, &call.name, &call.arguments]));
                self.number(u64::from(opaque.is_some()));
                opaque.iter().for_each(|opaque| self.texts([&opaque.origin, &opaque.content]));
            }
            Message::Tool { call_id, name, text, is_error } => {
                self.texts(["tool", call_id, name, text]);
                self.number(u64::from(*is_error));
            }
        }
    }
}

impl ModelRequest {
    /// Digest of the request, recorded with the reply so that a replay proves it asked the same. Model, tools, form of the
    /// answer and cache key come first, then the messages, then the bound of the answer: the messages that were taken in
    /// for an earlier request are not taken in again.
    pub fn digest(&self) -> Hash {
        let kept = self.memo.kept().digest.take().filter(|(messages, _)| *messages <= self.messages.len());
        let (known, mut feed) = kept.unwrap_or_else(|| (0, self.opening()));
        self.messages.iter().skip(known).for_each(|message| feed.message(message));
        self.memo.kept().digest = Some((self.messages.len(), feed.clone()));
        feed.text("end");
        feed.number(self.max_output_tokens);
        Hash(feed.0.finalize().into())
    }

    fn opening(&self) -> Feed {
        let mut feed = Feed(Sha256::new());
        feed.texts([&self.model, &self.cache_key]);
        feed.number(self.tools.len() as u64);
        self.tools.iter().for_each(|tool| feed.texts([&tool.name, &tool.description, &tool.parameters]));
        feed.number(u64::from(self.output.is_some()));
        self.output.iter().for_each(|output| feed.texts([&output.name, &output.schema]));
        feed
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
    use crate::{Image, Opaque, OutputSchema, RequestedCall, ToolDefinition};

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

    #[test]
    fn the_digest_is_that_of_the_whole_however_it_came_about() {
        let mut growing = request(0);
        for count in 0..4 {
            growing.messages = request(count).messages;
            growing.max_output_tokens = count as u64;
            // A copy begins anew.
            assert_eq!(growing.digest(), growing.clone().digest(), "{count}");
            assert_eq!(growing.digest(), growing.clone().digest(), "{count} again");
        }
    }

    #[test]
    fn requests_that_differ_in_anything_have_different_digests() {
        let tool = |name: &str, description: &str| ToolDefinition {
            name: name.to_owned(),
            description: description.to_owned(),
            parameters: "{}".to_owned(),
        };
        let called = |id: &str, name: &str, opaque: Option<&str>| Message::Assistant {
            text: String::new(),
            calls: vec![RequestedCall { id: id.to_owned(), name: name.to_owned(), arguments: "{}".to_owned() }],
            opaque: opaque.map(|content| Opaque { origin: "o".to_owned(), content: content.to_owned() }),
        };
        let told = |text: &str, is_error| Message::Tool {
            call_id: "c".to_owned(),
            name: "t".to_owned(),
            text: text.to_owned(),
            is_error,
        };
        let image = Image { media_type: "image/png".to_owned(), bytes: 1, sha256: Hash::of(b"1") };
        let shown = |image: &Image| Message::User { text: "said 0".to_owned(), images: vec![image.clone()] };
        let with = |message: Message| ModelRequest { messages: vec![message], ..request(0) };
        let output = |schema: &str| Some(OutputSchema { name: "f".to_owned(), schema: schema.to_owned() });
        let different = [
            request(0),
            request(1),
            request(2),
            ModelRequest { messages: request(2).messages.into_iter().rev().collect(), ..request(0) },
            ModelRequest { model: "n".to_owned(), ..request(1) },
            ModelRequest { cache_key: "other".to_owned(), ..request(1) },
            ModelRequest { max_output_tokens: 8, ..request(1) },
            ModelRequest { output: output("{}"), ..request(1) },
            ModelRequest { output: output("{ }"), ..request(1) },
            ModelRequest { tools: vec![tool("a", "bc")], ..request(1) },
            ModelRequest { tools: vec![tool("ab", "c")], ..request(1) },
            ModelRequest { tools: vec![tool("a", "b"), tool("a", "b")], ..request(1) },
            with(Message::System { text: "said 0".to_owned() }),
            with(shown(&image)),
            with(shown(&Image { bytes: 2, ..image.clone() })),
            with(shown(&Image { sha256: Hash::of(b"2"), ..image.clone() })),
            with(called("1", "2", None)),
            with(called("12", "", None)),
            with(called("1", "2", Some(""))),
            with(called("1", "2", Some("x"))),
            with(told("said", false)),
            with(told("said", true)),
        ];
        let digests: std::collections::BTreeSet<Hash> = different.iter().map(ModelRequest::digest).collect();
        assert_eq!(digests.len(), different.len());
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
