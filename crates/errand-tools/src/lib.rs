//! Tools: what a model may call, and carrying it out.
//!
//! Reading order:
//! - [`Manifest`], [`Registry`]: what tools there are. The manifests lie in `schemas/tools/`.
//! - [`Refused`]: arguments are read strictly and checked against the tool's schema before anything happens.
//! - [`check_schema`]: the form that an answer is asked to have.
//! - [`ToolBox`]: the engine's port [`errand_engine::ports::Tools`]; one module per tool stands behind it (`calculate`,
//!   `chart`, `code` for `python`, `node` and `shell`, `files`, `time` for `wait` and `ask_user`, `web` for `search`,
//!   `fetch`, `http` and `graphql`). Results of pure calls are kept for a while where the manifest says so (`cache`).
//! - `office`: `document` and `data`, whose programs run in a box with an image.
//! - [`Workspaces`]: a folder per run while it is at work here, snapshots in the blobs, files in
//!   ([`Workspaces::import`]) and out ([`files_made`], [`fetch_file`], [`fetch_all`]).
//! - [`Ways`]: what code in boxes may reach, where a run is granted anything.
//! - [`Network`]: the guarded way out, shared by all tools that speak HTTP.
//!
//! Absent on purpose: any way to run code outside of a box, any connection but the [`Network`]'s, settings. Tools that
//! need no box work where none can be made; tools that need one fail with `sandbox_unavailable`. Workspaces need Linux,
//! as boxes do. Unit tests stand beside the code; what needs a workspace or a real box is tested in `tests/`.

mod added;
mod answer;
mod arguments;
mod built_in;
mod cache;
mod calculate;
mod chart;
mod code;
mod execute;
mod files;
mod manifest;
mod mcp;
mod net;
mod office;
mod registry;
mod schema;
mod secret;
mod text;
mod time;
mod toolbox;
mod ways;
mod web;
mod workspace;

pub use added::{AddedSettings, Problem, ProblemKind};
pub use answer::{SchemaError, check_schema};
pub use arguments::Refused;
pub use manifest::{Error as ManifestError, Manifest};
pub use mcp::McpError;
pub use net::{AllowError, Network};
pub use office::{can_build_office_image, has_office_image};
pub use registry::{Listed, Registry};
pub use secret::{Missing, Secret, Vault};
pub use toolbox::ToolBox;
pub use ways::{WayError, Ways, WaysSettings};
pub use web::search::{SearchError, SearchProvider, SearchSettings};
pub use workspace::{
    BoxSettings, Error as WorkspaceError, FILES_MAX, Fetched, FileMade, IMPORT_BYTES_MAX, OnImage, PartLink, Room,
    SessionStore, Workspaces, fetch_all, fetch_file, file_links, files_made,
};
