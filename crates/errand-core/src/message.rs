//! What is said to a model and what it says back, free of any provider's dialect.

use crate::{Hash, Memo, OutputSchema, Usage};
use serde::{Deserialize, Serialize};

/// One entry of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// Instructions of the assistant.
    System {
        /// The text.
        text: String,
    },
    /// What a person said, or what the engine says in a person's place (marked in the text).
    User {
        /// The text.
        text: String,
        /// Images shown with it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        images: Vec<Image>,
    },
    /// A model reply.
    Assistant {
        /// Visible text, possibly empty.
        text: String,
        /// Tool calls asked for, in order.
        calls: Vec<RequestedCall>,
        /// What the provider wants back with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        opaque: Option<Opaque>,
    },
    /// A tool's answer to one call of the reply before it.
    Tool {
        /// The provider's id of the call.
        call_id: String,
        /// Name of the tool.
        name: String,
        /// What the model is shown.
        text: String,
        /// True if the call did not succeed.
        is_error: bool,
    },
}

/// An image by its digest; its bytes lie in the blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// `image/png`, `image/jpeg`, `image/gif` or `image/webp`.
    pub media_type: String,
    /// Its length.
    pub bytes: u64,
    /// Its content.
    pub sha256: Hash,
}

impl Image {
    /// What an image is by its first bytes, whatever its name or its sender says; `None` for what no provider takes.
    pub fn media_type_of(bytes: &[u8]) -> Option<&'static str> {
        match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
            [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
            _ => None,
        }
    }
}

/// What a provider sends with a reply and wants back unchanged in the next request, such as signed or encrypted
/// reasoning. It says nothing to anybody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opaque {
    /// Whom it comes from: dialect, endpoint and model. It goes back to no other.
    pub origin: String,
    /// It, in the form that the dialect chose.
    pub content: String,
}

impl Message {
    /// What a person says, in words alone.
    pub fn user(text: impl Into<String>) -> Self {
        Message::User { text: text.into(), images: Vec::new() }
    }

    /// Images shown in this message.
    pub fn images(&self) -> &[Image] {
        match self {
            Message::User { images, .. } => images,
            _ => &[],
        }
    }

    /// Bytes of text in this message that the provider will count as tokens.
    pub fn bytes(&self) -> u64 {
        let bytes = match self {
            Message::System { text } | Message::User { text, .. } => text.len(),
            Message::Assistant { text, calls, opaque } => {
                let opaque = opaque.as_ref().map_or(0, |opaque| opaque.content.len());
                opaque
                    + text.len()
                    + calls.iter().map(|call| call.name.len() + call.arguments.len() + call.id.len()).sum::<usize>()
            }
            Message::Tool { call_id, name, text, .. } => call_id.len() + name.len() + text.len(),
        };
        bytes as u64
    }
}

/// A tool call as the model wrote it; nothing of it has been checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedCall {
    /// The provider's id of the call, unique within the reply.
    pub id: String,
    /// Name of the tool asked for.
    pub name: String,
    /// Arguments, meant to be a JSON object.
    pub arguments: String,
}

/// Why a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model was done, or wants tools.
    Stop,
    /// The output limit cut it off.
    Length,
    /// The provider's filter or the model refused.
    Refused,
}

/// A whole reply of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelReply {
    /// The model that answered, as the provider names it.
    pub model: String,
    /// Visible text, possibly empty.
    pub text: String,
    /// Reasoning the provider showed, possibly empty. It is kept for readers; what is sent back is in `opaque`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reasoning: String,
    /// Tool calls asked for, in order.
    pub calls: Vec<RequestedCall>,
    /// What the provider wants back in the next request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opaque: Option<Opaque>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens as counted by the provider; `None` if it did not say.
    pub usage: Option<Usage>,
}

/// A tool as the model is told about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolDefinition {
    /// Name, `[a-z0-9_]{1,64}`.
    pub name: String,
    /// What it does and when to use it.
    pub description: String,
    /// JSON Schema of the arguments, as text.
    pub parameters: String,
}

/// Everything one model call sends. Later requests of a run have earlier ones as their prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRequest {
    /// Name of the model, as the user gave it.
    pub model: String,
    /// The conversation.
    pub messages: Vec<Message>,
    /// The tools on offer.
    pub tools: Vec<ToolDefinition>,
    /// Most output tokens.
    pub max_output_tokens: u64,
    /// The form that the answer must have, if the model is to answer without a tool call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputSchema>,
    /// The same for all requests that begin alike: where a provider routes by a key, it finds their prefix in its cache.
    pub cache_key: String,
    /// Work done on it before; leave it at its default.
    #[serde(skip)]
    pub memo: Memo,
}

/// What kind of failure a model call met. Decides whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelErrorKind {
    /// No key, a wrong one, or one without the right.
    Auth,
    /// The provider does not know the model.
    UnknownModel,
    /// The provider refused the request as it is.
    BadRequest,
    /// The conversation is longer than the model takes.
    ContextFull,
    /// The provider's account has no money or quota left.
    QuotaExhausted,
    /// Too many requests: wait.
    RateLimited,
    /// The provider is overloaded or broken (5xx).
    Unavailable,
    /// No connection.
    Connect,
    /// No answer in time.
    TimedOut,
    /// The answer broke off or could not be understood.
    Garbled,
}

impl ModelErrorKind {
    /// Whether the same call may succeed later.
    pub fn is_retryable(self) -> bool {
        use ModelErrorKind::*;
        matches!(self, RateLimited | Unavailable | Connect | TimedOut | Garbled)
    }

    /// The stable code that users and programs see.
    pub fn code(self) -> &'static str {
        match self {
            ModelErrorKind::Auth => "model_auth",
            ModelErrorKind::UnknownModel => "model_unknown",
            ModelErrorKind::BadRequest => "model_bad_request",
            ModelErrorKind::ContextFull => "context_full",
            ModelErrorKind::QuotaExhausted => "model_quota_exhausted",
            ModelErrorKind::RateLimited => "model_rate_limited",
            ModelErrorKind::Unavailable => "model_unavailable",
            ModelErrorKind::Connect => "model_unreachable",
            ModelErrorKind::TimedOut => "model_timed_out",
            ModelErrorKind::Garbled => "model_garbled",
        }
    }
}

/// A failed model call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// What went wrong.
    pub kind: ModelErrorKind,
    /// What a person reads: what failed, and what to do. Holds no key and no prompt.
    pub message: String,
    /// How long the provider asks to wait, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// True if the provider may have done the work and will charge for it.
    pub may_be_charged: bool,
}
