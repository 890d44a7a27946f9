//! What a dialect is: the forms that a request is sent in and a reply is gathered from.

use super::calls::TooManyCalls;
use super::classify::Complaint;
use super::manner::Manner;
use super::pictures::Pictures;
use errand_core::{ModelReply, ModelRequest};
use errand_engine::ports::DeltaSink;
use reqwest::Url;
use serde_json::Value;
use std::fmt::Debug;

/// The forms of one API.
pub(crate) trait Dialect: Debug + Send + Sync {
    /// Its name, in origins and messages.
    fn name(&self) -> &'static str;

    /// The address that the paths below stand on, from the one that was given.
    fn base(&self, given: Url) -> Url {
        given
    }

    /// The header that carries the key, and what stands before the key in it.
    fn key_header(&self) -> (&'static str, &'static str) {
        ("authorization", "Bearer ")
    }

    /// Headers that every request has.
    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Where a request goes, below the base.
    fn path(&self, model: &str) -> String;

    /// The body of a request.
    fn body(&self, ask: &Ask<'_>) -> Result<Value, Unfit>;

    /// The body as it is sent. Where messages stand for themselves, a dialect can write each of them once per run, see
    /// [`ModelRequest::append_messages`].
    fn bytes(&self, ask: &Ask<'_>) -> Result<Vec<u8>, Unfit> {
        Ok(self.body(ask)?.to_string().into_bytes())
    }

    /// How events are told apart on the wire.
    fn framing(&self) -> Framing {
        Framing::Events
    }

    /// Whoever gathers the reply.
    fn reader(&self, ask: &Ask<'_>) -> Box<dyn Reader>;

    /// Whether images of this type are taken.
    fn takes(&self, media_type: &str) -> bool {
        matches!(media_type, "image/png" | "image/jpeg" | "image/webp" | "image/gif")
    }

    /// Tokens of context that a model has at this endpoint, where the dialect decides it.
    fn context_tokens(&self, _manner: &Manner) -> Option<u64> {
        None
    }

    /// Most input tokens that one image is counted as, where nothing more is known of the model. The dearest known is
    /// gpt-4o-mini: 2,833 and 5,667 for each of up to 8 tiles, 48,169
    /// (<https://developers.openai.com/api/docs/guides/images-vision>, checked 2026-11-21).
    fn image_tokens(&self) -> u64 {
        50_000
    }

    /// Where models are listed, below the base.
    fn list_path(&self) -> &'static str {
        "models"
    }

    /// The models of a list.
    fn offers(&self, list: &Value) -> Vec<Offer>;

    /// What has to be asked about a model before its first call: a path and a body.
    fn question(&self, _model: &str) -> Option<(&'static str, Value)> {
        None
    }

    /// What the answer to the question tells.
    fn answer(&self, _model: &str, _answer: &Value) -> Option<Offer> {
        None
    }
}

/// One call, as a dialect sees it.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) request: &'a ModelRequest,
    /// The model as the endpoint knows it.
    pub(crate) model: &'a str,
    /// Whom replies come from, see [`errand_core::Opaque::origin`].
    pub(crate) origin: String,
    pub(crate) pictures: &'a Pictures,
    pub(crate) manner: &'a Manner,
    /// What was asked about the model, see [`Dialect::question`].
    pub(crate) about: Option<Offer>,
}

/// A model on offer, as far as its provider tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// Its name, as the provider takes it.
    pub name: String,
    /// Input and output tokens it takes at most.
    pub context_tokens: Option<u64>,
    /// Whether it takes images.
    pub images: Option<bool>,
    /// Whether it calls tools.
    pub tools: Option<bool>,
    /// Whether it reasons.
    pub reasoning: Option<bool>,
    /// Whether it converses at all, in place of embedding or drawing.
    pub chats: Option<bool>,
}

impl Offer {
    /// A model of which only the name is known.
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }
}

/// Why a request cannot be put into a dialect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// A tool's parameters are no JSON.
    #[error("the parameters of tool `{tool}` are not JSON; mend its manifest")]
    Tool { tool: String },
    /// The form of the answer is no JSON.
    #[error("the schema of the answer is not JSON; mend it")]
    Schema,
    /// The model is known not to do what the request needs.
    #[error("model `{model}` takes no {what}; choose one that does, or leave them out")]
    Lacks { model: String, what: &'static str },
}

/// How events are told apart on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Server-sent events.
    Events,
    /// One JSON value per line.
    Lines,
}

/// Gathers one reply. Made per call; told each event, then asked for the whole.
pub(crate) trait Reader: Send {
    /// Takes an event in its usual form as it came. `None`: it is to be read as a value, and nothing was taken.
    fn usual_event(&mut self, _text: &str, _deltas: &dyn DeltaSink) -> Option<Result<Step, Broken>> {
        None
    }

    /// The same for the answer of a server that does not stream.
    fn usual_whole(&mut self, _body: &[u8], _deltas: &dyn DeltaSink) -> Option<Result<(), Broken>> {
        None
    }

    /// Takes one event of the stream.
    fn event(&mut self, event: &Value, deltas: &dyn DeltaSink) -> Result<Step, Broken>;

    /// Takes the answer of a server that does not stream.
    fn whole(&mut self, body: &Value, deltas: &dyn DeltaSink) -> Result<(), Broken>;

    /// True once anything the model said has come.
    fn has_content(&self) -> bool;

    /// The reply. `ended` tells how the stream did.
    fn finish(self: Box<Self>, ended: Ended) -> Result<ModelReply, Broken>;
}

/// Whether more is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Go on reading.
    More,
    /// The reply is whole.
    Done,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By the dialect's own mark.
    Marked,
    /// Without a mark, but the HTTP framing proves that nothing is missing.
    Framed,
    /// The connection closed; something may be missing.
    Open,
}

/// Why an answer is no reply.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The provider said so.
    Complaint(Complaint),
    /// It makes no sense or is not whole: what is wrong, without a word of the reply.
    Garbled(String),
}

impl Broken {
    /// The end came too early.
    pub(crate) fn cut() -> Self {
        Broken::Garbled("the answer ended before it was whole".to_owned())
    }
}

impl From<TooManyCalls> for Broken {
    fn from(error: TooManyCalls) -> Self {
        Broken::Garbled(error.to_string())
    }
}

/// Fails if an event or a body holds an error.
pub(crate) fn complaint(body: &Value) -> Result<(), Broken> {
    match body.get("error") {
        None | Some(Value::Null) => Ok(()),
        Some(_) => Err(Broken::Complaint(Complaint::read(body, None))),
    }
}
