//! Secrets in the clear: a manifest is shared, committed and shown; what opens a door does not belong into it.

use super::problem::Problems;
use regex::Regex;
use serde_json::Value;
use std::sync::LazyLock;

/// Shapes of tokens of well-known services, of keys, and of addresses with a password (forms as published by their
/// services, checked 2026-11-21).
static SHAPES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"\bsk-[A-Za-z0-9_-]{16,}",
        r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bglpat-[A-Za-z0-9_-]{16,}",
        r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[A-Za-z0-9_-]{30,}",
        r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.|\bntn_[A-Za-z0-9]{20,}|\bsecret_[A-Za-z0-9]{30,}",
        r"|\b(?:[Bb]earer|[Bb]asic) +[A-Za-z0-9._~+/=-]{8,}",
        r"|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s@{}]*:[^/\s@{}]+@"
    ))
    .ok()
});

/// Tables whose names and values go to a server.
const TABLES: [&str; 6] =
    ["/request/headers", "/request/query", "/request/body/form", "/server/headers", "/server/env", "/command/env"];

/// Adds a problem for each value that looks like a secret.
pub(crate) fn look(value: &Value, problems: &mut Problems) {
    for table in TABLES {
        for (name, given) in value.pointer(table).and_then(Value::as_object).into_iter().flatten() {
            let takes_arguments = table.starts_with("/request");
            let is_filled_in = |text: &str| takes_arguments && text.contains('{');
            let literal = given.as_str().filter(|text| !text.is_empty());
            if literal.is_some_and(|text| !is_filled_in(text)) && names_a_secret(name) {
                let at = format!("{}.{name}", table.trim_start_matches('/').replace('/', "."));
                problems.in_clear(&at, instead(name));
            }
        }
    }
    arguments(value, problems);
    texts(value, "", problems);
}

/// Arguments of a program are for everybody to see: `--token x` and `--token=x`.
fn arguments(value: &Value, problems: &mut Problems) {
    for list in ["/server/args", "/command/argv"] {
        let arguments: Vec<&str> =
            value.pointer(list).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        for (index, argument) in arguments.iter().enumerate() {
            let Some(flag) = argument.strip_prefix('-') else { continue };
            let (name, literal) = match flag.split_once('=') {
                Some((name, literal)) => (name, Some(literal)),
                None => (flag, arguments.get(index + 1).copied().filter(|next| !next.starts_with('-'))),
            };
            if names_a_secret(name) && literal.is_some_and(|literal| !literal.is_empty() && !literal.contains('{')) {
                let at = format!("{}.{index}", list.trim_start_matches('/').replace('/', "."));
                problems.in_clear(&at, "it gives a secret as an argument, which everybody can see: give it as a variable, with `env = { NAME = { secret = \"NAME\" } }`");
            }
        }
    }
}

fn texts(value: &Value, at: &str, problems: &mut Problems) {
    let below = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    match value {
        Value::String(text) if SHAPES.as_ref().is_none_or(|shapes| shapes.is_match(text)) => {
            problems.in_clear(at, instead(at.rsplit('.').next().unwrap_or_default()));
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, one)| texts(one, &below(&index.to_string()), problems))
        }
        Value::Object(members) => members.iter().for_each(|(key, one)| texts(one, &below(key), problems)),
        _ => {}
    }
}

fn instead(name: &str) -> String {
    let word: String =
        name.chars().map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_uppercase() } else { '_' }).collect();
    format!(
        "a secret stands in the file: write {{ secret = \"{word}\" }} in its place, and give it as the variable ERRAND_SECRET_{word}, or as a file under [secrets] in errand.toml"
    )
}

/// True for names under which secrets are usually sent.
fn names_a_secret(name: &str) -> bool {
    const WORDS: [&str; 12] = [
        "authorization",
        "key",
        "token",
        "secret",
        "password",
        "passwd",
        "passphrase",
        "credential",
        "cookie",
        "apikey",
        "pwd",
        "signature",
    ];
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word)) || name == "auth"
}

/// The names of all secrets that a manifest asks for.
pub(crate) fn secrets(value: &Value) -> Vec<String> {
    let mut names = Vec::new();
    for table in TABLES {
        for given in value.pointer(table).and_then(Value::as_object).into_iter().flatten().map(|(_, given)| given) {
            names.extend(given.get("secret").and_then(Value::as_str).map(str::to_owned));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(value: Value) -> usize {
        let mut problems = Problems::default();
        look(&value, &mut problems);
        problems.into_list().len()
    }

    #[test]
    fn secrets_in_the_clear_are_found_by_name_and_by_shape() {
        for (value, count) in [
            (json!({ "request": { "headers": { "Authorization": "abc", "X-Api-Key": "abc", "Accept": "text/plain" } } }), 2),
            (json!({ "request": { "query": { "token": "x", "q": "{token}" } } }), 1),
            (json!({ "request": { "headers": { "Authorization": { "secret": "A" } } } }), 0),
            (json!({ "request": { "headers": { "X-Token": "{token}" } } }), 0),
            (json!({ "request": { "body": { "json": { "a": ["ghp_abcdefghijklmnopqrstuvwxyz0123456789"] } } } }), 1),
            (json!({ "request": { "url": "https://u:p@127.0.0.1/" } }), 1),
            (json!({ "server": { "env": { "GITHUB_TOKEN": "x", "LOG": "debug" } } }), 1),
            (json!({ "server": { "args": ["--api-key", "x", "--token=y", "--keyring", "--verbose"] } }), 2),
            (json!({ "request": { "document": "-----BEGIN RSA PRIVATE KEY-----" } }), 1),
            (json!({ "request": { "headers": { "X": "Bearer abcdefgh12345" } } }), 1),
        ] {
            assert_eq!(found(value.clone()), count, "{value}");
        }
    }
}
