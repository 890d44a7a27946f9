//! One try at an endpoint: send, gather the stream, tell failures apart.
//!
//! `client` knows addresses, keys and time-outs; `frames` cuts a body into events; a [`dialect::Dialect`] knows forms.
//! A dialect is one module and one line in [`dialect_of`].

mod address;
mod anthropic;
mod calls;
mod chat;
mod chunk;
mod classify;
mod client;
mod dialect;
mod draft;
mod forms;
mod frames;
mod gemini;
mod layout;
mod manner;
mod ollama;
mod pictures;
mod receive;
mod responses;
mod retry_after;
mod schema;
mod wire;

pub(crate) use client::Endpoint;
pub use dialect::Offer;

use crate::settings;

/// Who speaks a dialect. `Auto` is Responses for OpenAI itself and Chat Completions for everybody else.
fn dialect_of(chosen: settings::Dialect, is_openai: bool) -> &'static dyn dialect::Dialect {
    match chosen {
        settings::Dialect::Auto if is_openai => &responses::Responses,
        settings::Dialect::Auto | settings::Dialect::Chat => &chat::Chat,
        settings::Dialect::Responses => &responses::Responses,
        settings::Dialect::Anthropic => &anthropic::Anthropic,
        settings::Dialect::Gemini => &gemini::Gemini,
        settings::Dialect::Ollama => &ollama::Ollama,
    }
}
