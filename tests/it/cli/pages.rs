//! Every code that a user can see has a page, and every page a code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All source files of the crates whose codes users see, tests aside.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            sources(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

/// The quoted word that follows each `mark`.
fn quoted_after<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = String> + 'a {
    text.split(mark).skip(1).filter_map(|rest| {
        let rest = rest.trim_start().strip_prefix('"')?;
        let word = &rest[..rest.find('"')?];
        let is_code = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        is_code.then(|| word.to_owned())
    })
}

/// The bodies of functions that give the code of an error.
fn code_functions(text: &str) -> impl Iterator<Item = &str> {
    let functions =
        text.split("fn ").skip(1).filter(|rest| rest.split('(').next().is_some_and(|name| name.ends_with("code")));
    functions.map(|rest| {
        let ends = ["\n    }\n", "\n}\n"].iter().filter_map(|end| rest.find(end));
        &rest[..ends.min().unwrap_or(rest.len())]
    })
}

fn codes() -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    let crates =
        ["core", "engine", "keys", "store-local", "store-aws", "models", "tools", "sandbox", "egress", "api", "cli"];
    let folders = crates.iter().map(|name| format!("crates/errand-{name}/src"));
    for folder in folders.chain(["sandbox-runner/src", "functions/src"].map(str::to_owned)) {
        let mut files = Vec::new();
        sources(&root().join(folder), &mut files);
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
            for mark in [
                "Outcome::error(",
                "refused(",
                "Error::new(",
                "Failure::bad(",
                "Error::chain(",
                "Self::new(",
                "Self::chain(",
                "code: ",
                "Some((\"code\", ",
            ] {
                codes.extend(quoted_after(text, mark));
            }
            // Failures name their status first.
            for failure in text.split("Failure::new(").skip(1) {
                let code = failure.split_once(',').map_or("", |(_, rest)| rest.trim_start());
                codes.extend(quoted_after(&format!("Failure::bad({code}"), "Failure::bad(").take(1));
            }
            code_functions(text).for_each(|body| codes.extend(quoted_after(body, "=> ")));
            if file.ends_with("errand-tools/src/code.rs") {
                codes.extend(quoted_after(text, "(Some("));
            }
        }
    }
    // The status of a run is no error; a bound of the budget names itself.
    for status in ["running", "waiting", "paused", "done", "failed", "budget_exceeded"] {
        codes.remove(status);
    }
    codes
}

fn pages() -> BTreeSet<String> {
    let files = std::fs::read_dir(root().join("docs/errors")).unwrap();
    let names = files.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter_map(|name| name.strip_suffix(".md").map(str::to_owned)).filter(|name| name != "README").collect()
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let (codes, pages) = (codes(), pages());
    assert!(codes.len() > 100, "the search for codes has gone blind: {codes:?}");
    let missing: Vec<_> = codes.difference(&pages).collect();
    assert!(missing.is_empty(), "codes without a page in docs/errors: {missing:?}");
    let stale: Vec<_> = pages.difference(&codes).collect();
    assert!(stale.is_empty(), "pages in docs/errors without a code: {stale:?}");
}

#[test]
fn every_page_says_what_to_do_and_is_listed() {
    let index = std::fs::read_to_string(root().join("docs/errors/README.md")).unwrap();
    for code in pages() {
        let page = std::fs::read_to_string(root().join(format!("docs/errors/{code}.md"))).unwrap();
        assert!(page.starts_with(&format!("# {code}\n")) && page.contains("**What to do:**"), "{code}");
        assert!(index.contains(&format!("[{code}]({code}.md)")), "{code} is not in docs/errors/README.md");
    }
}
