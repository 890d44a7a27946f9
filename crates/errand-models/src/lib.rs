//! Models: OpenAI-compatible providers over HTTP, the price table, and the scripted model.
//!
//! In reading order:
//! - [`Settings`]: what the caller decides. [`Settings::from_lookup`] reads variables through a function; nothing here
//!   reads the environment itself, except that connections to other machines use its proxy.
//! - [`Providers`]: the engine's port `Models`, from a model's name to whoever answers for it.
//! - `http`: one try at an endpoint, in Chat Completions or Responses: stream, time-outs, kinds of failure.
//! - [`ScriptedModels`]: replies that follow a script; the form is told in `scripts/README.md`.
//! - [`listed`]: the price table. [`choose_default`]: a model when nobody named one.
//!
//! Absent on purpose: retries and their delays (the core decides those, on the record) and any judgement of what a
//! model said. Broken arguments, unknown tools and empty replies pass through unchanged; the engine answers them.
//!
//! Tests: in the modules, and `tests/it/` against a small server on loopback.

mod choose;
mod http;
mod prices;
mod providers;
mod scripted;
mod settings;

pub use choose::{Choice, ChooseError, OPENAI_DEFAULT, SCRIPT_DEFAULT, choose_default};
pub use prices::{Listed, listed};
pub use providers::Providers;
pub use scripted::{PREFIX, ScriptError, ScriptedModels};
pub use settings::{Dialect, OLLAMA_BASE_URL, OPENAI_BASE_URL, Secret, Settings, SettingsError, Timeouts};
