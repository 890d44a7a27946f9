//! Assistants, fall-backs, images and forms of answers, as a user has them.

use super::User;
use serde_json::Value;

const CLERK: &str = r#"
name = "clerk"
description = "Adds up"
model = "scripted/adds"
fallbacks = ["scripted/second"]
tools = ["calculate"]
instructions = "Add up what you are given."

[profile]
personality = "dry"
rules = ["Name the sum first."]

[budget]
usd = 0.25
steps = 7
"#;

fn user() -> User {
    let user = User::new();
    user.script("adds", "[[turn]]\nsay = \"42\"");
    user.script("second", "[[turn]]\nsay = \"from the second\"");
    user.script("down", "[[turn]]\nerror = { kind = \"auth\", message = \"the key is wrong\" }");
    std::fs::write(user.path("clerk.toml"), CLERK).unwrap();
    user
}

/// The events of the newest run.
fn events(user: &User) -> Vec<Value> {
    user.json(0, &["events", &user.newest()])
}

#[test]
fn an_assistant_is_kept_in_versions_and_a_run_is_pinned_to_one() {
    let user = user();
    assert_eq!(user.expect(0, &["assistants"]).stdout, "");
    assert!(user.expect(0, &["assistants", "add", "clerk.toml"]).stdout.starts_with("clerk@1 "));
    // The same text is the same version.
    assert!(user.expect(0, &["assistants", "add", "clerk.toml"]).stdout.starts_with("clerk@1 "));
    user.expect(0, &["run", "1 + 41", "--assistant", "clerk"]);
    let first = events(&user);
    assert_eq!(first[0]["assistant"], "clerk@1");
    assert_eq!(first[0]["model"], "scripted/adds");
    assert_eq!(first[0]["tools"], serde_json::json!(["calculate"]));

    std::fs::write(user.path("clerk.toml"), CLERK.replace("scripted/adds", "scripted/second")).unwrap();
    assert!(user.expect(0, &["assistants", "add", "clerk.toml"]).stdout.starts_with("clerk@2 "));
    user.expect(0, &["run", "1 + 41", "--assistant", "clerk"]);
    assert_eq!(events(&user)[0]["model"], "scripted/second");
    user.expect(0, &["run", "1 + 41", "--assistant", "clerk@1"]);
    assert_eq!(events(&user)[0]["model"], "scripted/adds");
    assert_eq!(user.expect(0, &["assistants", "versions", "clerk"]).stdout.lines().count(), 2);
    assert_eq!(user.expect(0, &["assistants", "show", "clerk@1"]).stdout.trim(), CLERK.trim());

    user.expect(0, &["assistants", "remove", "clerk"]);
    assert_eq!(user.expect(0, &["assistants"]).stdout, "");
    let gone = user.expect(2, &["run", "1 + 41", "--assistant", "clerk"]);
    assert!(gone.stderr.contains("error[assistant_not_found]"), "{gone:?}");
    // Versions are never given out again.
    assert!(user.expect(0, &["assistants", "add", "clerk.toml"]).stdout.starts_with("clerk@4 "));
}

#[test]
fn an_empty_list_is_none_of_the_kind() {
    let user = user();
    std::fs::write(user.path("bare.toml"), "name = \"bare\"\nmodel = \"scripted/adds\"\ntools = []\n").unwrap();
    user.expect(0, &["run", "x", "--assistant", "bare.toml"]);
    assert_eq!(events(&user)[0]["tools"], serde_json::json!([]));
    user.expect(0, &["run", "x", "--assistant", "bare.toml", "--tools", "calculate"]);
    assert_eq!(events(&user)[0]["tools"], serde_json::json!(["calculate"]));
}

#[test]
fn the_model_is_told_who_it_is_and_a_flag_goes_first() {
    let user = user();
    let file = user.path("clerk.toml");
    user.expect(0, &["run", "1 + 41", "--assistant", file.to_str().unwrap(), "--model", "scripted/second"]);
    let events = events(&user);
    assert_eq!((&events[0]["assistant"], &events[0]["model"]), (&"clerk@0".into(), &"scripted/second".into()));
    let run = events[0]["run"].as_str().unwrap();
    user.expect(0, &["export", run, "--output", "out.errand"]);
    let bundle = String::from_utf8_lossy(&std::fs::read(user.path("out.errand")).unwrap()).into_owned();
    assert!(bundle.contains("Add up what you are given.") && bundle.contains("- Name the sum first."), "{bundle}");
    assert!(bundle.contains("\"steps\":7"), "the budget of the assistant is not the run's");
    user.expect(0, &["replay", "out.errand"]);
}

#[test]
fn what_is_no_assistant_is_refused_before_anything_begins() {
    let user = user();
    for (text, code) in [
        ("name = \"a\"\nmodle = 1", "assistant_invalid"),
        ("name = \"A B\"", "assistant_name_invalid"),
        ("\u{0}", "assistant_invalid"),
    ] {
        std::fs::write(user.path("bad.toml"), text).unwrap();
        for arguments in [&["assistants", "add", "bad.toml"][..], &["run", "x", "--assistant", "bad.toml"]] {
            let refused = user.expect(2, arguments);
            assert!(refused.stderr.contains(&format!("error[{code}]")), "{text:?}: {refused:?}");
        }
    }
    for named in ["nobody", "nobody@2", "nobody@x", "../../etc/passwd", "missing.toml", "/dev/zero"] {
        assert!(user.expect(2, &["run", "x", "--assistant", named]).stderr.contains("error[assistant_"), "{named}");
    }
    assert!(!user.data().join("errand.db").exists(), "a refused run left a data folder");
}

#[test]
fn a_fall_back_takes_over_and_is_told_of() {
    let user = user();
    let ended = user.expect(0, &["run", "x", "--model", "scripted/down", "--fallback", "scripted/second"]);
    assert!(ended.stdout.contains("from the second"), "{ended:?}");
    let failed = events(&user).into_iter().find(|event| event["type"] == "model_failed").unwrap();
    assert_eq!(failed["next_model"], "scripted/second");
    let unknown = user.expect(2, &["run", "x", "--model", "scripted/adds", "--fallback", "scripted/nobody"]);
    assert!(unknown.stderr.contains("error[model_unknown]"), "{unknown:?}");
}

#[test]
fn answers_are_held_to_a_schema() {
    let user = user();
    user.script("sums", "[[turn]]\nsay = \"It is 42.\"\n[[turn]]\nsay = '{\"sum\": 42}'");
    let schema = r#"{"type":"object","required":["sum"],"properties":{"sum":{"type":"integer"}}}"#;
    std::fs::write(user.path("sum.json"), schema).unwrap();
    let ended = user.expect(0, &["run", "1 + 41", "--model", "scripted/sums", "--output-schema", "sum.json", "--json"]);
    let last: Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["answer"], "{\"sum\": 42}");
    assert_eq!(last["steps"], 2);
    std::fs::write(user.path("sum.json"), "[]").unwrap();
    let refused = user.expect(2, &["run", "x", "--output-schema", "sum.json"]);
    assert!(refused.stderr.contains("error[output_schema_invalid]"), "{refused:?}");
}

#[test]
fn images_are_kept_with_the_run_and_go_into_its_bundle() {
    let user = user();
    let image = b"\x89PNG\r\n\x1a\nnot much of an image";
    std::fs::write(user.path("dot.png"), image).unwrap();
    user.expect(0, &["run", "What is this?", "--model", "scripted/adds", "--image", "dot.png"]);
    let run = events(&user)[0]["run"].as_str().unwrap().to_owned();
    user.expect(0, &["export", &run, "--output", "out.errand"]);
    let bundle = std::fs::read(user.path("out.errand")).unwrap();
    assert!(bundle.windows(image.len()).any(|window| window == image), "the image is not in the bundle");
    user.expect(0, &["replay", "out.errand"]);
    for (name, bytes) in [("page.png", &b"<html>"[..]), ("empty.png", b"")] {
        std::fs::write(user.path(name), bytes).unwrap();
        let refused = user.expect(2, &["run", "x", "--image", name]);
        assert!(refused.stderr.contains("error[image_unusable]"), "{refused:?}");
    }
    assert!(user.expect(2, &["run", "x", "--image", "/dev/zero"]).stderr.contains("error[image_unusable]"));
}
