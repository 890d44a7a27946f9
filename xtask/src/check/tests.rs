use super::*;

const EVERYTHING: Tools = Tools { nextest: true, deny: true };
const NOTHING: Tools = Tools { nextest: false, deny: false };

fn lines(tools: Tools, advisories: bool) -> Vec<String> {
    plan(tools, advisories).iter().map(|step| command_line(&step.action)).collect()
}

#[test]
fn the_steps_with_every_tool() {
    let expected = [
        "cargo fmt --all --check",
        "cargo xtask edges",
        "cargo deny check --hide-inclusion-graph licenses bans sources",
        "cargo deny check advisories",
        "cargo clippy --workspace --all-targets -- -D warnings",
        "RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' \
         cargo doc --workspace --no-deps --document-private-items",
        "cargo test --workspace --doc",
        "cargo xtask python",
        "cargo nextest run --workspace --no-fail-fast",
    ];
    assert_eq!(lines(EVERYTHING, true), expected);
}

#[test]
fn without_tools_cargo_tests_and_the_skipped_step_says_how_to_have_it() {
    let lines = lines(NOTHING, false);
    assert_eq!(lines[2], "skipped, cargo-deny is not installed; to have this step: cargo install --locked cargo-deny");
    assert_eq!(lines.last().map(String::as_str), Some("cargo test --workspace --lib --bins --tests --no-fail-fast"));
    assert_eq!(lines.len(), plan(EVERYTHING, false).len());
}

#[test]
fn stops_at_the_first_failure_and_names_it() {
    let mut done = 0;
    let error = run_steps(&plan(EVERYTHING, false), &mut Vec::new(), |_| {
        done += 1;
        if done == 4 { bail!("exit status: 101") } else { Ok(()) }
    });
    let error = format!("{:#}", error.expect_err("the fourth step fails"));
    assert_eq!(done, 4);
    let expected =
        "check failed at 'lints' (4 of 8): cargo clippy --workspace --all-targets -- -D warnings: exit status: 101";
    assert_eq!(error, expected);
}

#[test]
fn a_skipped_step_is_not_carried_out() {
    let (mut done, mut out) = (0, Vec::new());
    run_steps(&plan(NOTHING, false), &mut out, |action| {
        assert!(!matches!(action, Action::Skip(_)));
        done += 1;
        Ok(())
    })
    .expect("no step fails");
    assert_eq!(done, 7);
    let out = String::from_utf8(out).expect("text");
    assert!(out.contains("=== [3/8] licences, bans, sources: skipped, cargo-deny is not installed"), "{out}");
    assert!(out.contains("=== check passed: 7 steps in"), "{out}");
}

#[test]
fn a_command_that_fails_fails_the_step() {
    let action = Action::Cargo { arguments: &["no-such-subcommand"], variables: &[] };
    assert!(carry_out(&action).is_err());
}

#[test]
fn the_summary_counts_and_explains() {
    let ended = [("format", Ended::Passed(Duration::from_millis(1_250))), ("licences", Ended::Skipped("no tool"))];
    let expected = "check passed: 1 steps in 1.2 s, 1 skipped\n     1.2 s  format\n   skipped  licences: no tool\n";
    assert_eq!(summary(&ended), expected);
}
