//! Searches that were recorded: for tests and demonstrations, without a network.

use super::{Hit, Provider, Query, Reach};
use async_trait::async_trait;
use errand_core::Outcome;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Longest file read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most files of a folder.
const FILES_MAX: usize = 1000;

/// Recorded searches. A query is answered with the one that shares the most words with it.
#[derive(Debug)]
pub(super) struct Recorded {
    searches: Vec<(BTreeSet<String>, Vec<Hit>)>,
}

/// One recorded search; a file holds a list of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    query: String,
    results: Vec<Hit>,
}

impl Recorded {
    /// Reads a JSON file, or all that a folder holds, in the order of their names.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let mut searches = Vec::new();
        for file in files(path)? {
            let failed = |problem: String| format!("the recorded searches in {} cannot be read: {problem}", file.display());
            let length = std::fs::metadata(&file).map_err(|error| failed(error.to_string()))?.len();
            if length > FILE_BYTES_MAX {
                return Err(failed(format!("it has {length} bytes, at most {FILE_BYTES_MAX} are read")));
            }
            let content = std::fs::read(&file).map_err(|error| failed(error.to_string()))?;
            let list: Vec<One> = serde_json::from_slice(&content).map_err(|error| failed(error.to_string()))?;
            searches.extend(list.into_iter().map(|one| (words(&one.query), one.results)));
        }
        Ok(Self { searches })
    }

    fn find(&self, query: &str) -> &[Hit] {
        let asked = words(query);
        let shared = |known: &BTreeSet<String>| known.intersection(&asked).count();
        // At least half of the recorded words; among equals the shorter one, then the first.
        let fits = self.searches.iter().filter(|(known, _)| !known.is_empty() && shared(known) * 2 >= known.len());
        let best = fits
            .enumerate()
            .max_by_key(|(at, (known, _))| (shared(known), std::cmp::Reverse(known.len()), std::cmp::Reverse(*at)));
        best.map_or(&[], |(_, (_, hits))| hits.as_slice())
    }
}

#[async_trait]
impl Provider for Recorded {
    async fn search(&self, query: &Query, _: Reach<'_>) -> Result<Vec<Hit>, Outcome> {
        let of_site = |hit: &&Hit| query.site.as_ref().is_none_or(|site| is_on(&hit.url, site));
        Ok(self.find(&query.text).iter().filter(of_site).take(query.count).cloned().collect())
    }
}

fn is_on(url: &str, site: &str) -> bool {
    let host = url.parse::<url::Url>().ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    host == site || host.ends_with(&format!(".{site}"))
}

fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.extension().is_some_and(|ending| ending == "json") {
            files.push(file);
        }
        if files.len() > FILES_MAX {
            return Err(format!("{} holds more than {FILES_MAX} files", path.display()));
        }
    }
    files.sort();
    Ok(files)
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(queries: &[&str]) -> Recorded {
        let hit = |query: &&str| Hit { title: (*query).to_owned(), url: "https://a.example/".to_owned(), ..Hit::default() };
        Recorded { searches: queries.iter().map(|query| (words(query), vec![hit(query)])).collect() }
    }

    #[test]
    fn the_search_that_shares_the_most_words_answers() {
        let known = recorded(&["rust async runtime", "rust", "weather in Oslo", "Rust, async"]);
        let found = |query: &str| known.find(query).first().map_or("", |hit| hit.title.as_str());
        assert_eq!(found("Which ASYNC runtime for Rust?"), "rust async runtime");
        assert_eq!(found("rust async"), "Rust, async");
        assert_eq!(found("learn rust"), "rust");
        assert_eq!(found("oslo weather tomorrow"), "weather in Oslo");
        assert_eq!(found("something else"), "");
        assert_eq!(found(""), "");
    }

    #[test]
    fn files_are_read_and_broken_ones_named() {
        let folder = tempfile::tempdir().unwrap();
        let good = folder.path().join("a.json");
        std::fs::write(&good, r#"[{"query": "a", "results": [{"title": "t", "url": "https://x.example", "text": "y"}]}]"#)
            .unwrap();
        std::fs::write(folder.path().join("notes.txt"), "not read").unwrap();
        assert_eq!(Recorded::read(folder.path()).unwrap().find("a").len(), 1);
        assert_eq!(Recorded::read(&good).unwrap().find("a")[0].title, "t");
        std::fs::write(folder.path().join("b.json"), r#"[{"query": "a", "result": []}]"#).unwrap();
        let problem = Recorded::read(folder.path()).unwrap_err();
        assert!(problem.contains("b.json") && problem.contains("result"), "{problem}");
        assert!(Recorded::read(&folder.path().join("none.json")).is_err());
    }
}
