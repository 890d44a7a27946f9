//! A reply as far as it has come.

use super::calls::Calls;
use super::dialect::Ask;
use super::forms::turn;
use super::layout::Layout;
use errand_core::{Finish, ModelReply, Usage};
use errand_engine::ports::{Delta, DeltaSink};

#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) model: String,
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) calls: Calls,
    pub(crate) layout: Layout,
    pub(crate) refused: bool,
    pub(crate) finish: Option<Finish>,
    pub(crate) usage: Option<Usage>,
    asked: String,
    origin: String,
    turn: usize,
}

impl Draft {
    /// Nothing yet. The call fills in what the provider leaves out.
    pub(crate) fn new(ask: &Ask<'_>) -> Self {
        Self { asked: ask.model.to_owned(), origin: ask.origin.clone(), turn: turn(ask.request), ..Self::default() }
    }

    pub(crate) fn has_content(&self) -> bool {
        !self.text.is_empty() || !self.reasoning.is_empty() || !self.calls.is_empty()
    }

    pub(crate) fn add_text(&mut self, text: &str, deltas: &dyn DeltaSink) {
        if !text.is_empty() {
            self.text.push_str(text);
            deltas.delta(Delta::Text(text.to_owned()));
        }
    }

    pub(crate) fn add_reasoning(&mut self, text: &str, deltas: &dyn DeltaSink) {
        if !text.is_empty() {
            self.reasoning.push_str(text);
            deltas.delta(Delta::Reasoning(text.to_owned()));
        }
    }

    /// The reply.
    pub(crate) fn into_reply(self) -> ModelReply {
        let finish = self.finish.unwrap_or(Finish::Stop);
        ModelReply {
            model: if self.model.is_empty() { self.asked } else { self.model },
            text: self.text,
            reasoning: self.reasoning,
            calls: self.calls.finish(self.turn),
            opaque: self.layout.into_opaque(self.origin),
            finish: if self.refused { Finish::Refused } else { finish },
            usage: self.usage,
        }
    }
}
