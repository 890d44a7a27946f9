//! The binary, as an operator starts it.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and says why it is skipped")]

#[allow(dead_code, reason = "some of it is for tests of the adapters")]
#[path = "../../../crates/errand-store-aws/tests/it/emulator.rs"]
mod emulator;
mod fleet;
mod images;
mod serve;

use serde_json::Value;
use std::process::{Command, Output};

fn doctor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sandbox-runner")).arg("doctor").args(arguments).output().unwrap()
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

#[test]
fn doctor_tells_what_the_probe_found_and_ends_by_it() {
    let output = doctor(&["--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let is_available = told["available"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(if is_available { 0 } else { 1 }));
    assert_eq!(told["tier"], "t1");
    // Only root can mount them; without loop devices it is told as well.
    let has_volumes = told["volumes"]["available"].as_bool().unwrap();
    assert!(has_volumes == told["volumes"]["reason"].is_null(), "{told}");
    assert!(has_volumes || !std::path::Path::new("/dev/loop-control").exists() || !is_root(), "{told}");
    // A host that cannot make boxes is told what to do; one that can has passed every check.
    assert_eq!(told["repairs"].as_array().unwrap().is_empty(), is_available);
    assert_eq!(
        told["checks"].as_array().unwrap().iter().all(|check| check["pass"] == true),
        is_available || told["checks"].as_array().unwrap().is_empty()
    );
    for quota in ["memory", "processes", "cpu", "workspace", "output", "time"] {
        assert!(["hard", "soft", "absent"].contains(&told["quotas"][quota].as_str().unwrap()), "{quota}");
    }
}

#[test]
fn doctor_speaks_to_people_too() {
    let output = doctor(&[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("sandbox tier t1: "), "{text}");
    assert!(text.contains("quotas: memory "), "{text}");
    assert!(text.contains("\nworkspaces of fixed size: can"), "{text}");
}

#[test]
fn doctor_probes_a_configured_runtime_and_refuses_what_is_none() {
    let told = |arguments: &[&str]| {
        let output = doctor(arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        let reports: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(reports.len(), 2, "{text}");
        (output.status.code(), reports)
    };
    let (code, reports) = told(&["--json", "--runtime", "/no/such/runtime"]);
    assert_eq!((code, &reports[1]["tier"], &reports[1]["available"]), (Some(1), &"t2".into(), &false.into()));
    assert_ne!(reports[1]["reasons"].as_array().unwrap().len(), 0);
    for runtime in ["/usr/bin/runsc", "/usr/bin/crun"].into_iter().filter(|path| std::path::Path::new(path).exists()) {
        let (_, reports) = told(&["--json", "--runtime", runtime, "--allow-shared-kernel"]);
        let failed: Vec<_> =
            reports[1]["checks"].as_array().unwrap().iter().filter(|check| check["pass"] == false).collect();
        assert!(failed.is_empty(), "{runtime}: {failed:?}");
    }
    assert_eq!(doctor(&["--allow-shared-kernel"]).status.code(), Some(2), "it says nothing without a runtime");
}
