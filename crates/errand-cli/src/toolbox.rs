//! The tools of a laptop: the built-in ones, with boxes on this machine.

use crate::config::{Config, Keys};
use crate::error::Error;
use errand_core::{InputFile, RunId, Snapshot, Tier, ToolSpec};
use errand_egress::{AllowList, Reach, System};
use errand_engine::ports::{Blobs, Tools};
use errand_sandbox::{CancelToken, EngineConfig, Images, ImagesConfig, Inside, OciConfig};
use errand_store_local::LocalBlobs;
use errand_tools::{
    AddedSettings, BoxSettings, ManifestError, Network, OnImage, Registry, SearchProvider, ToolBox, Ways, WaysSettings,
    Workspaces,
};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Most packages of an image that the model is told of.
const PACKAGES_TOLD_MAX: usize = 60;
/// How long servers may take to end by themselves.
const SERVERS_END: Duration = Duration::from_millis(900);

/// The tools, and the workspaces of the runs at work here.
pub(crate) struct Toolbox {
    registry: Arc<Registry>,
    workspaces: Arc<Workspaces>,
    network: Arc<Network>,
    search: Option<SearchProvider>,
    /// The image of runs, and where it lies.
    image: Option<(Arc<Images>, String)>,
    ways: Arc<Ways>,
}

impl Toolbox {
    /// Over the data folder. The host is probed when the first box is needed.
    pub(crate) fn new(config: &Config, blobs: &Arc<LocalBlobs>, on_image: OnImage) -> Result<Self, Error> {
        let root = config.data.join("workspaces");
        let boxes = box_settings(config, on_image);
        let image = boxes.images.clone().zip(boxes.image.clone());
        let images = boxes.images.clone();
        let workspaces =
            Workspaces::at(root, boxes, Arc::clone(blobs) as Arc<dyn Blobs>).map_err(|error| workspace(&error))?;
        let network = network(config)?;
        let registry = added_registry(config, &network).map_err(|error| added(&error))?.with_office(images.as_deref());
        let search = config.search.clone().map(SearchProvider::new).transpose();
        let search = search.map_err(|error| Error::chain(error.code(), &error))?;
        let ways = Arc::new(ways(config)?);
        Ok(Self { registry: Arc::new(registry), workspaces: Arc::new(workspaces), network, search, image, ways })
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
        let tools = ToolBox::new(Arc::clone(&self.registry), Arc::clone(&self.workspaces), network);
        Arc::new(tools.searching(self.search.clone()).reaching(Some(Arc::clone(&self.ways))))
    }

    /// The tools of a new run: those called `names`; all that do real work if none are named. Starts the servers that it
    /// may need.
    pub(crate) async fn offer(&self, names: Option<&[String]>) -> Result<Vec<ToolSpec>, Error> {
        let mut offered = self.registry.offer(names).await.map_err(|error| added(&error))?;
        self.tell_packages(&mut offered);
        Ok(offered)
    }

    /// Says to the model which packages its Python finds in the image of runs.
    fn tell_packages(&self, offered: &mut [ToolSpec]) {
        let Some((images, name)) = &self.image else { return };
        // Of an image that is not known a call tells more.
        let Ok(list) = images.lock_of(name) else { return };
        let packages = list.packages().take(PACKAGES_TOLD_MAX).collect::<Vec<_>>().join(", ");
        for spec in offered.iter_mut().filter(|spec| spec.source.is_none() && spec.definition.name == "python") {
            spec.definition.description.push_str(&format!(" Beside these it can import {packages}."));
        }
    }

    /// Grants the tools of a new run that run code what they are to reach, of what the settings allow.
    pub(crate) fn grant(&self, tools: &mut [ToolSpec], hosts: &[String]) -> Result<(), Error> {
        self.ways.grant(tools, hosts).map_err(|error| Error::chain(error.code(), &error))
    }

    /// Whether any of these tools could be granted something.
    pub(crate) fn can_reach(tools: &[ToolSpec]) -> bool {
        tools.iter().any(Ways::suits)
    }

    /// Probes the host, makes the image that runs see and kernels ahead, on a thread of its own. What it returns stops that
    /// when it is dropped.
    pub(crate) fn prepare(&self) -> Result<Preparing, Error> {
        let cancel = CancelToken::new().map_err(|error| Error::new("engine_stopped", error.to_string()))?;
        let (workspaces, token) = (Arc::clone(&self.workspaces), cancel.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = workspaces.prepare(&token) {
                tracing::warn!(code = error.code(), error = error.chain(), "calls that need the image try once more");
            }
        });
        Ok(Preparing(cancel))
    }

    /// Begins to make the image that the code of runs sees, where it is not there: the model thinks meanwhile.
    pub(crate) fn begin_image(&self) {
        let workspaces = Arc::clone(&self.workspaces);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = workspaces.begin_image() {
                tracing::debug!(code = error.code(), error = error.chain(), "calls that need the image wait for it");
            }
        });
    }

    /// All names there are, without those of servers that were not asked yet.
    pub(crate) fn names(&self) -> Vec<String> {
        self.registry.names()
    }

    /// Ends the servers that were started.
    pub(crate) async fn close(&self) {
        if tokio::time::timeout(SERVERS_END, self.registry.close()).await.is_err() {
            tracing::warn!("an MCP server was ended before it could end by itself");
        }
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

/// What goes on while nobody waits for it.
pub(crate) struct Preparing(CancelToken);

impl Drop for Preparing {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// How boxes are made on this machine.
pub(crate) fn engine_config(config: &Config) -> EngineConfig {
    EngineConfig { search_path: config.search_path.clone(), ..EngineConfig::default() }
}

/// How this program becomes the first process of a box of tier T2.
pub(crate) fn runtime_config(config: &Config) -> Option<OciConfig> {
    let choice = &config.sandbox;
    let runtime = choice.runtime.clone()?;
    // Without the place of this program the probe says that there is none.
    let program = std::env::current_exe().unwrap_or_default();
    Some(OciConfig {
        boxes: engine_config(config),
        runtime,
        kind: None,
        flags: choice.runtime_flags.clone(),
        inside: Inside { program, arguments: vec!["inside-box".to_owned()] },
        allow_shared_kernel: choice.allow_shared_kernel,
    })
}

/// How code is kept in boxes.
fn box_settings(config: &Config, on_image: OnImage) -> BoxSettings {
    let choice = &config.sandbox;
    BoxSettings {
        engine: engine_config(config),
        runtime: runtime_config(config),
        #[cfg(feature = "t0")]
        scripts: crate::commands::worker().ok(),
        min_tier: match choice.min_tier {
            Tier::T0 => errand_sandbox::Tier::T0,
            Tier::T1 => errand_sandbox::Tier::T1,
            Tier::T2 => errand_sandbox::Tier::T2,
        },
        hard_quotas: choice.hard_quotas,
        idle: choice.idle,
        warm: choice.warm.unwrap_or_default(),
        images: images(config),
        image: choice.image.clone(),
        on_image,
        room: choice.room,
    }
}

/// The images of this data folder, where there can be some. Its folder is made.
pub(crate) fn images(config: &Config) -> Option<Arc<Images>> {
    let how = ImagesConfig { search_path: config.search_path.clone(), ..ImagesConfig::default() };
    let images = Images::at(config.data.join("images"), how);
    images.map(Arc::new).inspect_err(|error| tracing::debug!(%error, "there are no images")).ok()
}

/// What code in boxes may reach.
fn ways(config: &Config) -> Result<Ways, Error> {
    let terms = config.sandbox.egress.clone();
    Ok(Ways::new(WaysSettings { terms, reach: reach(config)?, vault: Arc::new(Keys::new(config)), tls: None }))
}

/// Which addresses a box may be connected to, by a name or as they are.
pub(crate) fn reach(config: &Config) -> Result<Reach, Error> {
    let allow = AllowList::parse(&config.allow_addresses).map_err(|error| Error::chain(error.code(), &error))?;
    Ok(Reach::new(allow, Arc::new(System)))
}

/// The tools there are with these settings. Nothing is started.
pub(crate) fn registry(config: &Config) -> Result<Registry, Error> {
    added_registry(config, &network(config)?).map_err(|error| added(&error))
}

/// The way out to the network.
pub(crate) fn network(config: &Config) -> Result<Arc<Network>, Error> {
    Network::new(&config.allow_addresses).map(Arc::new).map_err(|error| Error::chain(error.code(), &error))
}

/// The same, with all that is wrong.
pub(crate) fn added_registry(config: &Config, network: &Arc<Network>) -> Result<Registry, ManifestError> {
    let (vault, network) = (Arc::new(Keys::new(config)), Arc::clone(network));
    let settings = AddedSettings { folders: config.tool_dirs.clone(), vault, network };
    Ok(Registry::with_added(&settings)?.searching(config.search.is_some()))
}

/// What is wrong with the tools.
pub(crate) fn added(error: &ManifestError) -> Error {
    Error::chain(error.code(), error)
}

/// What went wrong with a run's files.
pub(crate) fn workspace(error: &errand_tools::WorkspaceError) -> Error {
    Error::chain(error.code(), error)
}
