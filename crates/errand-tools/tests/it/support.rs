//! A tool box over a folder of its own and blobs in memory.

use async_trait::async_trait;
use errand_core::{Call, CallId, Hash, Outcome, RunId, Snapshot, Timestamp, ToolSpec, Verdict};
use errand_engine::ports::{Blobs, PortError, ToolJob, ToolReply, Tools};
use errand_sandbox::{Engine, EngineConfig, Report};
use errand_tools::{BoxSettings, Network, Registry, ToolBox, Ways, Workspaces};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use tempfile::TempDir;

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_770_000_000_000);

#[derive(Default)]
pub(crate) struct MemoryBlobs(Mutex<HashMap<Hash, Vec<u8>>>);

impl MemoryBlobs {
    pub(crate) fn remove(&self, hash: &Hash) {
        self.0.lock().unwrap().remove(hash).unwrap();
    }

    pub(crate) fn hashes(&self) -> Vec<Hash> {
        self.0.lock().unwrap().keys().copied().collect()
    }
}

#[async_trait]
impl Blobs for MemoryBlobs {
    async fn put(&self, bytes: &[u8]) -> Result<Hash, PortError> {
        let hash = Hash::of(bytes);
        self.0.lock().unwrap().insert(hash, bytes.to_vec());
        Ok(hash)
    }

    async fn get(&self, hash: &Hash) -> Result<Option<Vec<u8>>, PortError> {
        Ok(self.0.lock().unwrap().get(hash).cloned())
    }
}

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) blobs: Arc<MemoryBlobs>,
    pub(crate) workspaces: Arc<Workspaces>,
    pub(crate) tools: Arc<ToolBox>,
    pub(crate) run: RunId,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap(), Arc::default(), EngineConfig::default())
    }

    /// On a host that can make no box.
    pub(crate) fn without_boxes() -> Self {
        let missing = EngineConfig { read_only: vec!["/nonexistent/for/this/test".into()], ..EngineConfig::default() };
        Self::over(tempfile::tempdir().unwrap(), Arc::default(), missing)
    }

    /// With boxes made so.
    pub(crate) fn with_boxes(boxes: BoxSettings) -> Self {
        Self::over(tempfile::tempdir().unwrap(), Arc::default(), boxes)
    }

    /// The same data, in a process that has just started.
    pub(crate) fn restarted(self) -> Self {
        let Self { folder, blobs, workspaces, tools, .. } = self;
        drop((workspaces, tools));
        Self::over(folder, blobs, EngineConfig::default())
    }

    fn over(folder: TempDir, blobs: Arc<MemoryBlobs>, boxes: impl Into<BoxSettings>) -> Self {
        let root = folder.path().join("sessions");
        let workspaces = Arc::new(Workspaces::at(root, boxes, blobs.clone()).unwrap());
        let network = network();
        let tools = Arc::new(ToolBox::new(Arc::new(Registry::built_in().unwrap()), workspaces.clone(), network));
        Self { folder, blobs, workspaces, tools, run: RunId::new(NOW, 7) }
    }

    /// The same, with these tools.
    pub(crate) fn with(mut self, registry: Arc<Registry>) -> Self {
        self.tools = Arc::new(ToolBox::new(registry, self.workspaces.clone(), network()));
        self
    }

    /// The same, where code may reach this.
    pub(crate) fn reaching(mut self, ways: Ways) -> Self {
        let registry = Arc::new(Registry::built_in().unwrap());
        let tools = ToolBox::new(registry, self.workspaces.clone(), network());
        self.tools = Arc::new(tools.reaching(Some(Arc::new(ways))));
        self
    }

    /// Carries out a call of a tool as a run is pinned to it.
    pub(crate) async fn call_spec(&self, index: u32, spec: &ToolSpec, arguments: Value) -> ToolReply {
        let (arguments, id) = (arguments.to_string(), CallId { record: 2, index });
        let job = ToolJob {
            run: self.run,
            call: Call { born: self.run, id, tool: &spec.definition.name, arguments: &arguments },
            spec,
            workspace: None,
            timeout_ms: spec.timeout_ms,
            observation_bytes: 16 << 10,
            has_called_before: false,
            min_tier: None,
            egress_bytes: 0,
            now: NOW,
        };
        self.tools.run(job).await
    }

    /// Lets go of the run's folder.
    pub(crate) async fn workspaces_gone(&self) {
        self.tools.release(self.run).await;
    }

    pub(crate) fn check(&self, tool: &str, arguments: &str) -> Verdict {
        self.tools.check(&spec(tool), arguments, NOW)
    }

    /// Carries out a call of the first record.
    pub(crate) async fn call(&self, index: u32, tool: &str, arguments: Value, workspace: Option<Snapshot>) -> ToolReply {
        self.call_with(index, tool, arguments, workspace, |_| {}).await
    }

    pub(crate) async fn call_with(
        &self,
        index: u32,
        tool: &str,
        arguments: Value,
        workspace: Option<Snapshot>,
        change: impl FnOnce(&mut ToolJob<'_>),
    ) -> ToolReply {
        let spec = spec(tool);
        let arguments = arguments.to_string();
        assert!(matches!(self.check(tool, &arguments), Verdict::Accepted { .. }), "{:?}", self.check(tool, &arguments));
        let id = CallId { record: 2, index };
        let mut job = ToolJob {
            run: self.run,
            call: Call { born: self.run, id, tool, arguments: &arguments },
            spec: &spec,
            workspace,
            timeout_ms: spec.timeout_ms,
            observation_bytes: 16 << 10,
            has_called_before: false,
            min_tier: None,
            egress_bytes: 0,
            now: NOW,
        };
        change(&mut job);
        self.tools.run(job).await
    }
}

/// A way out to this machine.
pub(crate) fn network() -> Arc<Network> {
    Arc::new(Network::new(&["127.0.0.0/8"]).unwrap())
}

pub(crate) fn spec(tool: &str) -> ToolSpec {
    Registry::built_in().unwrap().specs(&[tool]).unwrap().remove(0)
}

pub(crate) fn ok(reply: &ToolReply) -> &str {
    match &reply.outcome {
        Outcome::Ok { text } => text,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn error(reply: &ToolReply) -> (&str, &str) {
    match &reply.outcome {
        Outcome::Error { code, text } => (code, text),
        other => panic!("{other:?}"),
    }
}

/// Whether this host can make boxes; says why not. A box that can be made and is not tight is no reason to skip.
pub(crate) fn boxes() -> bool {
    static REPORT: OnceLock<Report> = OnceLock::new();
    let report = REPORT.get_or_init(|| Engine::probe(&EngineConfig::default()));
    assert_eq!(report.passed(), report.checks.len(), "the box is not tight: {report}");
    if !report.available {
        println!("skipped: {}", report.reasons.join("; "));
    }
    report.available
}

/// Whether this host has what a tool runs; says if not.
pub(crate) fn has(tool: &str) -> bool {
    static FOUND: OnceLock<Vec<String>> = OnceLock::new();
    let find =
        || Engine::start(&EngineConfig::default()).unwrap().interpreters().iter().map(|one| one.name.clone()).collect();
    let wanted = match tool {
        "python" => "python3",
        "shell" => "bash",
        other => other,
    };
    let has = FOUND.get_or_init(find).iter().any(|name| name == wanted);
    if !has {
        println!("skipped: this host has no {wanted} that a box can use");
    }
    has
}

/// Whether `sleep ARGUMENT` is running on this host.
pub(crate) fn running(argument: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|line| line.starts_with(b"sleep\0") && String::from_utf8_lossy(&line).contains(argument))
}
