//! A synthetic workspace in the JSON of `cargo metadata` that keeps every rule; each test adds one wrong edge.

use super::*;
use serde_json::{Value, json};

/// `name` at `folder`, depending on `dependencies`: ours by name, those of others by [`outside`].
fn package(folder: &str, name: &str, dependencies: &[Value]) -> Value {
    json!({"name": name, "manifest_path": format!("/ws/{folder}/Cargo.toml"), "dependencies": dependencies, "features": {}})
}

fn ours(name: &str) -> Value {
    json!({"name": name, "source": null, "kind": null, "path": format!("/ws/crates/{name}"), "features": []})
}

fn outside(name: &str) -> Value {
    json!({"name": name, "source": "registry+https://github.com/rust-lang/crates.io-index", "kind": null, "features": []})
}

fn with(mut dependency: Value, field: &str, value: Value) -> Value {
    dependency[field] = value;
    dependency
}

fn sound_workspace() -> Vec<Value> {
    vec![
        package("crates/errand-core", "errand-core", &[outside("serde"), outside("sha2")]),
        package("crates/errand-engine", "errand-engine", &[ours("errand-core"), outside("futures")]),
        package("crates/errand-store-aws", "errand-store-aws", &[ours("errand-engine"), outside("aws-sdk-dynamodb")]),
        package("crates/errand-sandbox", "errand-sandbox", &[outside("rustix")]),
        package("crates/errand-tools", "errand-tools", &[ours("errand-engine"), ours("errand-sandbox")]),
        package("crates/errand-sim", "errand-sim", &[with(ours("errand-engine"), "features", json!(["bugs"]))]),
        package("functions/step", "errand-step", &[ours("errand-store-aws"), outside("lambda_runtime")]),
        package("crates/errand-cli", "errand-cli", &[ours("errand-tools"), outside("aws-lc-rs")]),
    ]
}

/// What is wrong once `changed` stands in the place of the package of its name, or beside the others.
fn check(changed: Value) -> Vec<String> {
    let mut packages = sound_workspace();
    packages.retain(|package| package["name"] != changed["name"]);
    packages.push(changed);
    let metadata = json!({"packages": packages, "workspace_root": "/ws"});
    let members = manifest::parse(metadata.to_string().as_bytes()).expect("the test's own JSON");
    wrong_edges(&members, RULES).iter().map(Wrong::to_string).collect()
}

fn check_edges(folder: &str, name: &str, dependencies: &[Value]) -> Vec<String> {
    check(package(folder, name, dependencies))
}

#[test]
fn a_sound_workspace_passes() {
    assert_eq!(check(sound_workspace().remove(0)), Vec::<String>::new());
}

#[test]
fn the_core_uses_none_of_ours() {
    let wrong = check_edges("crates/errand-core", "errand-core", &[ours("errand-engine")]);
    assert_eq!(wrong, ["errand-core depends on errand-engine: it may use nothing of this workspace"]);
}

#[test]
fn the_core_links_no_runtime_clock_or_random_source() {
    for name in ["tokio", "reqwest", "rand", "chrono", "time", "jiff", "futures", "rustix"] {
        let wrong = check_edges("crates/errand-core", "errand-core", &[outside(name)]);
        let expected = format!(
            "errand-core depends on {name}: of crates from outside it may use serde, serde_json, sha2, thiserror only"
        );
        assert_eq!(wrong, [expected]);
    }
}

#[test]
fn a_build_script_counts_and_tests_do_not() {
    let build = with(outside("chrono"), "kind", json!("build"));
    assert_eq!(check_edges("crates/errand-core", "errand-core", &[build]).len(), 1);
    let dev = with(outside("tempfile"), "kind", json!("dev"));
    assert_eq!(check_edges("crates/errand-core", "errand-core", &[dev]), Vec::<String>::new());
}

#[test]
fn the_engine_knows_no_adapter() {
    let wrong = check_edges("crates/errand-engine", "errand-engine", &[ours("errand-sandbox")]);
    assert_eq!(wrong, ["errand-engine depends on errand-sandbox: it may use errand-core of this workspace"]);
}

#[test]
fn adapters_do_not_know_each_other_not_even_in_tests() {
    for kind in [json!(null), json!("dev")] {
        let edge = with(ours("errand-tools"), "kind", kind);
        let wrong = check_edges("crates/errand-store-aws", "errand-store-aws", &[edge]);
        let expected = "errand-store-aws depends on errand-tools: it may use errand-core, errand-engine of this workspace";
        assert_eq!(wrong, [expected]);
    }
}

#[test]
fn a_box_holds_none_of_our_other_code() {
    let wrong = check_edges("crates/errand-sandbox", "errand-sandbox", &[ours("errand-core")]);
    assert_eq!(wrong, ["errand-sandbox depends on errand-core: it may use nothing of this workspace"]);
}

#[test]
fn aws_crates_stay_in_their_places() {
    for name in ["aws-sdk-s3", "aws_lambda_events", "lambda_http"] {
        let wrong = check_edges("crates/errand-cli", "errand-cli", &[outside(name)]);
        let expected = format!("errand-cli depends on {name}: AWS crates belong in errand-store-aws and functions/");
        assert_eq!(wrong, [expected]);
    }
}

#[test]
fn a_function_at_the_edge_is_pure() {
    let wrong = check_edges("functions/edge", "errand-edge", &[ours("errand-store-aws")]);
    assert_eq!(wrong, ["errand-edge depends on errand-store-aws: it may use errand-core of this workspace"]);
}

#[test]
fn the_simulation_is_for_tests_only() {
    let dev = with(ours("errand-sim"), "kind", json!("dev"));
    assert_eq!(check_edges("crates/errand-engine", "errand-engine", &[dev]), Vec::<String>::new());
    let wrong = check_edges("crates/errand-engine", "errand-engine", &[ours("errand-sim")]);
    assert_eq!(wrong, ["errand-engine depends on errand-sim: it may use errand-core of this workspace"]);
}

#[test]
fn no_program_switches_planted_bugs_on() {
    let asked = with(ours("errand-engine"), "features", json!(["bugs"]));
    let wrong = check_edges("crates/errand-cli", "errand-cli", std::slice::from_ref(&asked));
    let expected = "errand-cli switches on the feature `errand-engine/bugs`: planted bugs are for errand-sim and tests";
    assert_eq!(wrong, [expected]);
    let in_tests = with(asked, "kind", json!("dev"));
    assert_eq!(check_edges("crates/errand-cli", "errand-cli", &[in_tests]), Vec::<String>::new());
}

#[test]
fn nor_does_a_feature_of_its_own() {
    let mut engine = package("crates/errand-engine", "errand-engine", &[ours("errand-core")]);
    engine["features"] = json!({"bugs": ["errand-core/bugs"], "default": ["bugs"]});
    let expected = "errand-engine switches on the feature `bugs`: planted bugs are for errand-sim and tests";
    assert_eq!(check(engine), [expected]);
}

#[test]
fn crates_come_from_crates_io_or_the_workspace() {
    let git = with(outside("oddity"), "source", json!("git+https://example.org/oddity"));
    let path = json!({"name": "stray", "source": null, "kind": null, "path": "/elsewhere/stray", "features": []});
    let wrong = check_edges("crates/errand-cli", "errand-cli", &[git, path]);
    let expected = [
        "errand-cli depends on oddity from git+https://example.org/oddity: crates come from crates.io or from this workspace",
        "errand-cli depends on stray from /elsewhere/stray: crates come from crates.io or from this workspace",
    ];
    assert_eq!(wrong, expected);
}

#[test]
fn a_new_package_needs_a_rule() {
    let wrong = check_edges("crates/errand-new", "errand-new", &[]);
    assert_eq!(wrong, ["errand-new has no rule: add a row for it to xtask/src/edges/rules.rs"]);
}

#[test]
fn what_is_not_metadata_is_refused() {
    assert!(manifest::parse(b"{}").is_err());
}

#[test]
fn this_workspace_keeps_the_rules() {
    let members = manifest::read().expect("cargo metadata runs here");
    assert!(members.iter().any(|member| member.name == "errand-core" && member.folder == "crates/errand-core"));
    assert_eq!(wrong_edges(&members, RULES), []);
}
