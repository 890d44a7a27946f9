//! Models: providers over HTTP in five dialects, the price table, and the scripted model.
//!
//! In reading order:
//! - [`Settings`]: what the caller decides. [`Settings::from_lookup`] reads variables through a function; nothing here
//!   reads the environment itself, except that connections to other machines use its proxy.
//! - [`Providers`]: the engine's port `Models`, from a model's name to whoever answers for it. [`VENDORS`]: those known
//!   by name.
//! - `http`: one try at an endpoint: stream, time-outs, kinds of failure. A dialect is one module there.
//! - [`ScriptedModels`]: replies that follow a script; the form is told in `scripts/README.md`.
//! - [`listed`]: the price table. [`choose_default`]: a model when nobody named one. [`survey()`]: what there is.
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
mod survey;
mod vendors;

pub use choose::{Choice, ChooseError, SCRIPT_DEFAULT, choose_by_key, choose_default};
pub use http::Offer;
pub use prices::{Listed, listed, lists_prices};
pub use providers::Providers;
pub use scripted::{PREFIX, ScriptError, ScriptedModels};
pub use settings::{
    AZURE_KEY, Azure, Dialect, OLLAMA_BASE_URL, OLLAMA_CONTEXT_TOKENS, Secret, Settings, SettingsError, Timeouts,
};
pub use survey::{Provider, State, survey};
pub use vendors::{ANTHROPIC_DEFAULT, GEMINI_DEFAULT, OPENAI_DEFAULT, VENDORS, Vendor};
