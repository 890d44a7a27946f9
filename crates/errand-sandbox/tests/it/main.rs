//! Real boxes on this machine. Where the host cannot make one, each test says why it is skipped.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and says why it is skipped")]

mod browser;
mod calls;
mod door;
mod images;
mod isolation;
mod kernels;
mod leaks;
mod limits;
mod oci;
mod pool;
mod runner;
mod scenarios;
mod snapshots;
#[cfg(feature = "t0")]
mod t0;
mod volumes;
mod zygotes;

use std::sync::{Arc, LazyLock};

use errand_sandbox::{Engine, EngineConfig, Error, Exec, ExecOutcome, Report, Session, Sessions, Strength};

static ENGINE: LazyLock<Result<Arc<Engine>, Error>> =
    LazyLock::new(|| Engine::start(&EngineConfig::default()).map(Arc::new));

/// A session of its own, in a folder that goes with it.
pub(crate) struct World {
    pub(crate) engine: &'static Arc<Engine>,
    pub(crate) session: Session,
    pub(crate) root: tempfile::TempDir,
}

/// None, after saying why, where this host has no T1 boxes.
pub(crate) fn world() -> Option<World> {
    match &*ENGINE {
        Ok(engine) => {
            let root = tempfile::tempdir().unwrap();
            let session = Sessions::at(root.path().join("sessions")).unwrap().create("test").unwrap();
            Some(World { engine, session, root })
        }
        Err(error) => {
            skip_or_fail(error);
            None
        }
    }
}

/// A host without the means is a reason to skip; a box that can be made and is not tight, or that fails where another tool makes
/// one, is a fault of this crate.
fn skip_or_fail(error: &Error) {
    let report = Engine::probe(&EngineConfig::default());
    let failed: Vec<_> = report.checks.iter().filter(|check| !check.pass).collect();
    assert!(failed.is_empty(), "the box is not tight: {failed:#?}");
    assert!(!other_tool_makes_namespaces(), "the host can do it, yet {error}");
    println!("skipped: {error}");
}

/// Whether `unshare` of util-linux can make the same namespaces.
fn other_tool_makes_namespaces() -> bool {
    let options =
        ["--user", "--map-root-user", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--mount-proc", "true"];
    std::process::Command::new("unshare").args(options).status().is_ok_and(|status| status.success())
}

impl World {
    pub(crate) fn run(&self, exec: Exec) -> ExecOutcome {
        self.engine.run(&self.session, exec).unwrap()
    }

    pub(crate) fn shell(&self, script: &str) -> ExecOutcome {
        self.run(Exec::shell(script))
    }

    /// What a script prints; it must succeed.
    pub(crate) fn prints(&self, script: &str) -> String {
        let outcome = self.shell(script);
        assert!(outcome.success(), "{outcome:?}");
        outcome.stdout.text()
    }

    /// False, after saying so, where this host has no Python for boxes.
    pub(crate) fn has_python(&self) -> bool {
        let found = self.engine.interpreters().iter().any(|one| one.name == "python3");
        if !found {
            println!("skipped: this host has no python3 that a box can use");
        }
        found
    }

    pub(crate) fn memory_is_hard(&self) -> bool {
        self.engine.report().quotas.memory == Strength::Hard
    }
}

#[test]
fn the_probe_passes_whole_and_quickly_or_the_engine_is_refused() {
    let report = Engine::probe(&EngineConfig::default());
    let text = report.to_string();
    match Engine::start(&EngineConfig::default()) {
        Ok(engine) => {
            assert!(report.available, "{text}");
            assert_eq!(report.passed(), report.checks.len(), "{text}");
            assert!(report.checks.len() >= 100, "{text}");
            assert_eq!(engine.report().checks.len(), report.checks.len());
            assert!(text.contains("sandbox tier t1: ready"), "{text}");
        }
        Err(error) => {
            assert!(!report.available && !report.reasons.is_empty(), "{error}: {text}");
            skip_or_fail(&error);
        }
    }
    let carried: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(carried, report);
}

#[test]
fn a_host_without_user_namespaces_gets_no_engine_and_hears_why() {
    let (report, error) = std::thread::spawn(|| {
        errand_sandbox::refuse_user_namespaces_on_this_thread().unwrap();
        let config = EngineConfig::default();
        (Engine::probe(&config), Engine::start(&config).unwrap_err())
    })
    .join()
    .unwrap();
    assert!(!report.available && report.checks.is_empty());
    assert!(report.quotas.list().iter().all(|(_, strength)| *strength == Strength::Absent));
    let Error::TierUnavailable { reasons, .. } = &error else { panic!("{error}") };
    assert!(reasons[0].contains("user namespaces") && reasons[0].contains("Operation not permitted"), "{reasons:?}");
}

#[test]
fn a_folder_to_show_that_is_none_is_told_at_start() {
    let config = EngineConfig { read_only: vec!["relative".into()], ..EngineConfig::default() };
    assert!(Engine::start(&config).unwrap_err().to_string().contains("relative"));
}
