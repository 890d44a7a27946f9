//! Real workers of tier T0.

mod language;
mod limits;
mod sessions;

use std::sync::LazyLock;
use std::time::Duration;

use errand_sandbox::t0::{ScriptConfig, ScriptEngine};
use errand_sandbox::{Error, ExecOutcome, Limits, Report, Strength};

static ENGINE: LazyLock<ScriptEngine> = LazyLock::new(|| ScriptEngine::start(config()).unwrap());

fn config() -> ScriptConfig {
    ScriptConfig::new(env!("CARGO_BIN_EXE_errand-t0-worker"), [""; 0])
}

/// Much time, little of everything else.
fn limits() -> Limits {
    Limits { wall: Duration::from_secs(20), memory_bytes: 64 << 20, output_bytes: 64 << 10, ..Limits::default() }
}

fn run(code: &str) -> ExecOutcome {
    ENGINE.run_script(code.as_bytes(), &limits(), None, None).unwrap()
}

#[test]
fn the_probe_passes_whole_and_quotas_are_hard_where_the_kernel_holds_them() {
    let report = ScriptEngine::probe(&config());
    assert!(report.available && report.reasons.is_empty() && report.checks.len() > 30, "{report}");
    for (quota, strength) in report.quotas.list() {
        assert_eq!(strength, Strength::Hard, "{quota}: {report}");
    }
    let again: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(again, report);
}

/// The walls behind the interpreter, tried by a program that has none.
#[test]
fn the_walls_hold_without_the_interpreter() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_errand-t0-worker")).arg("rehearse").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let wanted = "read a file: held\nwrite a file: held\nopen a socket: held\nrun a program: held\nstart a thread: held\n\
                  write to another pipe: held\nend its parent's time: held\ntake all memory: held\n";
    assert_eq!(text, wanted, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_program_that_is_no_worker_is_refused_with_reasons() {
    for program in ["/bin/true", "/bin/cat", "/nonexistent/worker"] {
        let report = ScriptEngine::probe(&ScriptConfig::new(program, [""; 0]));
        assert!(!report.available && report.checks.len() == 1, "{report}");
        let error = ScriptEngine::start(ScriptConfig::new(program, [""; 0])).unwrap_err();
        assert!(matches!(&error, Error::TierUnavailable { reasons, .. } if reasons.len() == 1), "{error}");
    }
}

#[test]
fn scripts_at_once_are_apart() {
    let threads: Vec<_> = (0..8)
        .map(|number| {
            std::thread::spawn(move || {
                for round in 0..5 {
                    let outcome = run(&format!("x = {number}\nfor i in range(1000):\n    x += 1\nprint(x, {round})"));
                    assert_eq!(outcome.stdout.text(), format!("{} {round}\n", number + 1000));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn the_tier_stands_among_the_others_and_takes_python_alone() {
    use errand_sandbox::{Exec, Sessions, Tier, Tiers};
    let engine = ScriptEngine::start(config()).unwrap();
    let tiers = Tiers::default().with(Ok(std::sync::Arc::new(engine)));
    let root = tempfile::tempdir().unwrap();
    let session = Sessions::at(root.path().join("sessions")).unwrap().create("test").unwrap();
    session.put_file("notes.txt", b"12345").unwrap();
    let tier = tiers.at_least(Tier::T0, true).unwrap();
    let outcome = tier.run(&session, Exec::python("print(6 * 7)")).unwrap();
    assert_eq!((outcome.stdout.text().as_str(), outcome.workspace_bytes, outcome.workspace_files), ("42\n", 5, 1));
    let hidden = tier.run(&session, Exec::python("print(open('/workspace/notes.txt').read())")).unwrap();
    assert!(hidden.stderr.text().contains("PermissionError: tier t0 has no files"), "{hidden:?}");
    let refused = tier.run(&session, Exec::shell("ls")).unwrap_err();
    assert!(refused.code() == "sandbox_exec_refused" && refused.to_string().contains("Python code alone"), "{refused}");
    assert_eq!(tiers.at_least(Tier::T1, false).unwrap_err().code(), "sandbox_tier_unavailable");
}
