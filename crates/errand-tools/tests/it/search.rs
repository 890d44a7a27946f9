//! The tool `search` with recorded searches, and with nobody to search.

use crate::support::{World, error, ok};
use errand_tools::{Network, Registry, SearchProvider, SearchSettings, ToolBox};
use serde_json::json;
use std::sync::Arc;

#[tokio::test]
async fn recorded_searches_answer_and_are_kept() {
    let mut world = World::new();
    let path = world.folder.path().join("searches.json");
    let hits = json!([{"title": "Rust", "url": "https://www.rust-lang.org/", "text": "A language."}, {"title": "Other", "url": "https://x.example/"}]);
    std::fs::write(&path, json!([{"query": "rust language", "results": hits}]).to_string()).unwrap();
    let settings = SearchSettings { provider: "recorded".to_owned(), key: None, url: None, path: Some(path) };
    let provider = SearchProvider::new(settings).unwrap();
    let (registry, network) = (Arc::new(Registry::built_in().unwrap()), Arc::new(Network::new::<&str>(&[]).unwrap()));
    world.tools = Arc::new(ToolBox::new(registry, world.workspaces.clone(), network).searching(Some(provider)));
    let found = world.call(0, "search", json!({"query": "the Rust language"}), None).await;
    assert_eq!(ok(&found), "1. Rust\n   https://www.rust-lang.org/\n   A language.\n2. Other\n   https://x.example/");
    let again = world.call(1, "search", json!({"query": "the Rust language"}), None).await;
    assert!(ok(&again).starts_with("[from the cache, 0 s old]\n1. Rust"), "{}", ok(&again));
    let site = world.call(2, "search", json!({"query": "rust language", "site": "rust-lang.org", "count": 5}), None).await;
    assert!(!ok(&site).contains("Other"), "{}", ok(&site));
    let nothing = world.call(3, "search", json!({"query": "weather"}), None).await;
    assert!(ok(&nothing).contains("nothing was found"), "{}", ok(&nothing));
}

#[tokio::test]
async fn without_a_provider_it_says_what_to_set() {
    let reply = World::new().call(0, "search", json!({"query": "x"}), None).await;
    let (code, text) = error(&reply);
    assert!(code == "search_not_configured" && text.contains("search.provider"), "{text}");
}
