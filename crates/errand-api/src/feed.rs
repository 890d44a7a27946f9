//! What happens to runs just now, for whoever looks on: told to each listener of a run, kept for nobody.
//!
//! The log is the truth. A listener that falls behind, or comes late, loses nothing but the small pieces in which a reply
//! arrived: it reads the log and goes on from there.

use errand_core::RunId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast::{Receiver, Sender, channel, error::RecvError};

/// Pulses that a listener may fall behind before it has to read the log.
const BEHIND: usize = 1_024;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pulse {
    /// A record was stored, or some were missed: read the log.
    Recorded,
    /// An attempt at a record begins; what an earlier one showed is void.
    Attempt {
        /// The record that it tries to make.
        record: u64,
        /// Which attempt.
        attempt: u32,
    },
    /// A piece of visible text.
    Text(Arc<str>),
    /// A piece of reasoning.
    Reasoning(Arc<str>),
}

/// What an attempt under way has shown so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partial {
    /// The record that it tries to make.
    pub record: u64,
    /// Which attempt.
    pub attempt: u32,
    /// Visible text.
    pub text: String,
    /// Reasoning.
    pub reasoning: String,
}

/// Hands pulses to the listeners of each run. Clones share everything.
#[derive(Clone, Default)]
pub struct Feed {
    topics: Arc<Mutex<HashMap<RunId, Topic>>>,
}

struct Topic {
    sender: Sender<Pulse>,
    partial: Option<Partial>,
}

impl Topic {
    fn new() -> Self {
        Self { sender: channel(BEHIND).0, partial: None }
    }

    fn is_idle(&self) -> bool {
        self.partial.is_none() && self.sender.receiver_count() == 0
    }
}

impl Feed {
    /// A record of a run was stored.
    pub fn recorded(&self, run: RunId) {
        let mut topics = self.topics();
        if let Some(topic) = topics.get_mut(&run) {
            topic.partial = None;
            // Nobody may be listening.
            let _ = topic.sender.send(Pulse::Recorded);
            if topic.is_idle() {
                topics.remove(&run);
            }
        }
    }

    /// An attempt at a record begins.
    pub fn attempt(&self, run: RunId, record: u64, attempt: u32) {
        let mut topics = self.topics();
        let topic = topics.entry(run).or_insert_with(Topic::new);
        topic.partial = Some(Partial { record, attempt, ..Partial::default() });
        let _ = topic.sender.send(Pulse::Attempt { record, attempt });
    }

    /// A piece of visible text of the attempt under way.
    pub fn text(&self, run: RunId, text: &str) {
        self.piece(run, text, Pulse::Text, |partial| &mut partial.text);
    }

    /// A piece of reasoning of the attempt under way.
    pub fn reasoning(&self, run: RunId, text: &str) {
        self.piece(run, text, Pulse::Reasoning, |partial| &mut partial.reasoning);
    }

    fn piece(&self, run: RunId, text: &str, pulse: fn(Arc<str>) -> Pulse, part: fn(&mut Partial) -> &mut String) {
        let mut topics = self.topics();
        let Some(Topic { sender, partial: Some(partial) }) = topics.get_mut(&run) else { return };
        part(partial).push_str(text);
        let _ = sender.send(pulse(text.into()));
    }

    /// Listens to a run from now on. What was stored before is for the listener to read, after this.
    pub fn listen(&self, run: RunId) -> Listener {
        let mut topics = self.topics();
        let topic = topics.entry(run).or_insert_with(Topic::new);
        let (receiver, partial) = (topic.sender.subscribe(), topic.partial.clone());
        Listener { run, receiver: Some(receiver), partial, feed: self.clone() }
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<RunId, Topic>> {
        // Nothing that can panic is done under the lock.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One listener of one run.
pub struct Listener {
    run: RunId,
    receiver: Option<Receiver<Pulse>>,
    partial: Option<Partial>,
    feed: Feed,
}

impl Listener {
    /// What the attempt under way had shown when listening began. Once.
    pub fn partial(&mut self) -> Option<Partial> {
        self.partial.take()
    }

    /// The next pulse, and whether some were missed. Those count as one [`Pulse::Recorded`]; pieces that follow are not the
    /// next ones of the attempt, until another begins.
    pub async fn pulse(&mut self) -> (Pulse, bool) {
        let Some(receiver) = &mut self.receiver else { return std::future::pending().await };
        match receiver.recv().await {
            Ok(pulse) => (pulse, false),
            Err(RecvError::Lagged(_)) => (Pulse::Recorded, true),
            // A topic outlives its listeners.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.receiver = None;
        let mut topics = self.feed.topics();
        if topics.get(&self.run).is_some_and(Topic::is_idle) {
            topics.remove(&self.run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use errand_core::Timestamp;

    fn run() -> RunId {
        RunId::new(Timestamp::from_millis(1), 1)
    }

    #[tokio::test]
    async fn a_late_listener_is_told_what_was_shown_and_the_rest_follows() {
        let feed = Feed::default();
        feed.attempt(run(), 2, 1);
        feed.text(run(), "one ");
        let mut listener = feed.listen(run());
        feed.text(run(), "two");
        feed.recorded(run());
        let partial = listener.partial().unwrap();
        assert_eq!((partial.record, partial.attempt, &*partial.text), (2, 1, "one "));
        assert_eq!(listener.pulse().await, (Pulse::Text("two".into()), false));
        assert_eq!(listener.pulse().await, (Pulse::Recorded, false));
    }

    #[tokio::test]
    async fn who_falls_behind_is_told_to_read() {
        let feed = Feed::default();
        let mut listener = feed.listen(run());
        feed.attempt(run(), 2, 1);
        for _ in 0..2 * BEHIND {
            feed.text(run(), "x");
        }
        assert_eq!(listener.pulse().await, (Pulse::Recorded, true));
    }

    #[test]
    fn nothing_is_kept_of_runs_that_nobody_looks_at() {
        let feed = Feed::default();
        feed.text(run(), "lost");
        feed.attempt(run(), 2, 1);
        drop(feed.listen(run()));
        assert_eq!(feed.topics().len(), 1, "its attempt is under way");
        feed.recorded(run());
        drop(feed.listen(run()));
        assert_eq!(feed.topics().len(), 0);
    }
}
