use async_trait::async_trait;
use errand_core::{ModelError, ModelReply, ModelRequest, Price};

/// Model providers. One call is one try: whether and when to try again is decided by the core, on the record.
#[async_trait]
pub trait Models: Send + Sync {
    /// What is known of a model before a run is made for it. Fails with `UnknownModel` or `Auth` where that is
    /// certain without asking the provider.
    fn facts(&self, model: &str) -> Result<ModelFacts, ModelError>;

    /// Sends `request` and gathers the whole reply, handing out text to `deltas` as it arrives.
    /// Dropping the future closes the connection.
    async fn call(&self, request: &ModelRequest, deltas: &dyn DeltaSink) -> Result<ModelReply, ModelError>;
}

/// What is known of a model beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFacts {
    /// What its tokens cost; `None` if no table says, and then no budget in dollars can be kept.
    pub price: Option<Price>,
    /// Input and output tokens it takes at most, if known.
    pub context_tokens: Option<u64>,
    /// Most input tokens that one image is counted as.
    pub image_tokens: u64,
    /// Who answers for it, such as a host's name; a run that was begun with one is carried on with no other.
    pub endpoint: Option<String>,
    /// True if answers come from a script and not from a model; must be shown to people.
    pub scripted: bool,
}

/// A piece of a reply on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// Visible text.
    Text(String),
    /// Reasoning the provider shows.
    Reasoning(String),
    /// A call begins; its arguments follow with the whole reply.
    Call {
        /// Name of the tool.
        name: String,
    },
}

/// Takes the pieces. Must not block.
pub trait DeltaSink: Send + Sync {
    /// Takes one piece.
    fn delta(&self, delta: Delta);
}

impl DeltaSink for () {
    fn delta(&self, _: Delta) {}
}
