//! The tools of a laptop: the built-in ones, with boxes on this machine.

use crate::config::Config;
use crate::error::Error;
use errand_core::{InputFile, RunId, Snapshot, ToolSpec};
use errand_engine::ports::{Blobs, Tools};
use errand_sandbox::EngineConfig;
use errand_store_local::LocalBlobs;
use errand_tools::{Network, Registry, ToolBox, Workspaces};
use std::path::PathBuf;
use std::sync::Arc;

/// The tools, and the workspaces of the runs at work here.
pub(crate) struct Toolbox {
    registry: Arc<Registry>,
    workspaces: Arc<Workspaces>,
    network: Arc<Network>,
}

impl Toolbox {
    /// Over the data folder. The host is probed when the first box is needed.
    pub(crate) fn new(config: &Config, blobs: &Arc<LocalBlobs>) -> Result<Self, Error> {
        let root = config.data.join("workspaces");
        let boxes = engine_config(config);
        let workspaces =
            Workspaces::at(root, boxes, Arc::clone(blobs) as Arc<dyn Blobs>).map_err(|error| workspace(&error))?;
        let network = Network::new(&config.allow_addresses).map_err(|error| Error::chain(error.code(), &error))?;
        Ok(Self { registry: Arc::new(registry()?), workspaces: Arc::new(workspaces), network: Arc::new(network) })
    }

    /// Removes the scratch of all runs; their snapshots stay.
    pub(crate) fn clear(&self) {
        if let Err(error) = self.workspaces.clear() {
            tracing::warn!(error = %error.chain(), "the workspaces' folders stay until the next start");
        }
    }

    /// As the engine knows them.
    pub(crate) fn tools(&self) -> Arc<dyn Tools> {
        let network = Arc::clone(&self.network);
        Arc::new(ToolBox::new(Arc::clone(&self.registry), Arc::clone(&self.workspaces), network))
    }

    /// The tools called `names`; the default set if none are named.
    pub(crate) fn specs(&self, names: Option<&[String]>) -> Result<Vec<ToolSpec>, Error> {
        match names {
            None => Ok(self.registry.default_set()),
            Some(names) => self.registry.specs(names).map_err(|error| Error::chain(error.code(), &error)),
        }
    }

    /// All tools there are, and for how long the result of a pure call is kept, in seconds.
    pub(crate) fn known() -> Result<Vec<(ToolSpec, Option<u32>)>, Error> {
        Ok(registry()?.all().map(|(spec, cache_ttl_s)| (spec.clone(), cache_ttl_s)).collect())
    }

    /// Copies files into the workspace of a new run. `base` is the workspace it goes on from; a file of the same name
    /// takes the place of the one there.
    pub(crate) async fn import(
        &self,
        run: RunId,
        base: Option<Snapshot>,
        files: &[PathBuf],
    ) -> Result<(Option<Snapshot>, Vec<InputFile>), Error> {
        let imported = self.workspaces.import_onto(run, base, files.to_vec()).await;
        let (files, workspace) = imported.map_err(|error| workspace(&error))?;
        Ok((workspace, files))
    }
}

/// How boxes are made on this machine.
pub(crate) fn engine_config(config: &Config) -> EngineConfig {
    EngineConfig { search_path: config.search_path.clone(), ..EngineConfig::default() }
}

fn registry() -> Result<Registry, Error> {
    Registry::built_in().map_err(|error| Error::chain(error.code(), &error))
}

/// What went wrong with a run's files.
pub(crate) fn workspace(error: &errand_tools::WorkspaceError) -> Error {
    Error::chain(error.code(), error)
}
