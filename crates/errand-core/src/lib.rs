//! The pure state machine of a run (map being completed with the modules below).
mod id;
mod limits;
mod message;
mod money;
mod time;

pub use id::{CallId, Hash, InvalidHash, InvalidId, Nonce, RunId};
pub use limits::Limits;
pub use message::{Finish, Message, ModelError, ModelErrorKind, ModelReply, ModelRequest, RequestedCall, ToolDefinition};
pub use money::{Amount, Budget, Price, Spent, Usage, Usd, WhenExceeded};
pub use time::Timestamp;
