//! API keys: who may ask, and as whose tenant. The same on a laptop and elsewhere.
//!
//! Reading order: `form` (a key as text), [`Keys`] (create and check, over the port [`Heads`]), [`list`] and [`revoke`], [`Gate`] (what a
//! listener asks of every request), [`RootKey`] (under which keys are hashed).
//!
//! A key is shown once and never stored: only its HMAC-SHA-256 under the root key is, so that a copy of what is stored opens
//! nothing and cannot be searched for guesses. The root key is given to this code, never read by it. Nothing here keeps a key
//! in memory after a request, puts one into an error, or logs one. Absent on purpose: HTTP, clocks, files. Tests: `tests.rs`
//! here, and with the stock SDKs in `tests/it/serve/keys.rs`.
//!
//! [`Heads`]: errand_engine::ports::Heads

mod form;
mod gate;
mod keys;
mod root;
#[cfg(test)]
mod tests;

pub use form::{InvalidKeyId, KeyId, PREFIX};
pub use gate::{Gate, Principal, Refusal, bearer};
pub use keys::{Error, Issued, KEY_KIND, KEYS_MAX, KeyInfo, Keys, Wanted, list, revoke};
pub use root::RootKey;
