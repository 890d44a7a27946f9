use super::*;
use crate::net::server::{Answer, Server};

fn settings(provider: &str, url: Option<String>) -> SearchSettings {
    SearchSettings { provider: provider.to_owned(), key: Some(Secret::new("k-1")), url, path: None }
}

async fn search(server: &Server, provider: &str, path: &str, query: &Query) -> Result<Vec<Hit>, Outcome> {
    let network = Network::new(&[&server.address]).unwrap();
    let SearchProvider(provider) = SearchProvider::new(settings(provider, Some(server.url(path)))).unwrap();
    let (now, timeout) = (Timestamp::from_millis(0), Duration::from_secs(20));
    provider.search(query, Reach { network: &network, now, timeout }).await
}

fn query() -> Query {
    Query { text: "a b&c".to_owned(), count: 3, since: Some(Since::Week), site: Some("x.example".to_owned()) }
}

fn hit(date: &str) -> Hit {
    Hit { title: "T".to_owned(), url: "https://x.example/".to_owned(), text: "about".to_owned(), date: date.to_owned() }
}

#[tokio::test]
async fn brave_is_asked_in_its_way() {
    let answer = r#"{"type": "search", "web": {"results": [{"title": "T", "url": "https://x.example/", "description": "about", "age": "2 days ago"}, {"title": "no url"}]}}"#;
    let server = Server::saying(Answer::ok("application/json", answer)).await;
    assert_eq!(search(&server, "brave", "/res/v1/web/search", &query()).await.unwrap(), [hit("2 days ago")]);
    let request = &server.requests()[0];
    assert!(request.starts_with("GET /res/v1/web/search?q=a+b%26c+site%3Ax.example&count=3&freshness=pw "), "{request}");
    assert!(request.contains("x-subscription-token: k-1"), "{request}");
}

#[tokio::test]
async fn tavily_is_asked_in_its_way() {
    let answer =
        r#"{"query": "q", "results": [{"title": "T", "url": "https://x.example/", "content": "about", "score": 0.9}]}"#;
    let server = Server::saying(Answer::ok("application/json", answer)).await;
    assert_eq!(search(&server, "tavily", "/search", &query()).await.unwrap(), [hit("")]);
    let request = &server.requests()[0];
    assert!(request.starts_with("POST /search ") && request.contains("authorization: Bearer k-1"), "{request}");
    let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    let wanted =
        serde_json::json!({"query": "a b&c", "max_results": 3, "time_range": "week", "include_domains": ["x.example"]});
    assert_eq!(body, wanted);
}

#[tokio::test]
async fn searxng_is_asked_in_its_way() {
    let answer =
        r#"{"results": [{"title": "T", "url": "https://x.example/", "content": "about", "publishedDate": "2026-01-02"}]}"#;
    let server = Server::saying(Answer::ok("application/json", answer)).await;
    for path in ["", "/", "/search"] {
        assert_eq!(search(&server, "searxng", path, &query()).await.unwrap(), [hit("2026-01-02")], "{path}");
    }
    for request in server.requests() {
        assert!(request.starts_with("GET /search?q=a+b%26c+site%3Ax.example&format=json&time_range=week "), "{request}");
        assert!(!request.contains("k-1"), "{request}");
    }
}

#[tokio::test]
async fn what_a_provider_refuses_is_told_without_the_key() {
    for (answer, wanted) in [
        (Answer::new("401 Unauthorized", "", "bad token"), "key is missing or wrong"),
        (Answer::new("429 Too Many", "", ""), "quota"),
        (Answer::ok("text/html", "<html>"), "not the JSON"),
    ] {
        let server = Server::saying(answer).await;
        let outcome = search(&server, "brave", "/", &query()).await.unwrap_err();
        let Outcome::Error { code, text } = outcome else { panic!("{outcome:?}") };
        assert!(code == "search_failed" && text.contains(wanted) && !text.contains("k-1"), "{text}");
    }
}

#[test]
fn settings_that_lack_something_say_what() {
    let without_key = |provider: &str| SearchSettings { key: None, ..settings(provider, None) };
    for (settings, wanted) in [
        (without_key("brave"), "ERRAND_SEARCH_KEY"),
        (without_key("tavily"), "ERRAND_SEARCH_KEY"),
        (settings("searxng", None), "search.url"),
        (settings("searxng", Some("not a url".to_owned())), "search.url"),
        (settings("recorded", None), "search.path"),
        (settings("altavista", None), "searxng"),
    ] {
        let error = SearchProvider::new(settings).err().unwrap().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    assert!(!format!("{:?}", settings("brave", None)).contains("k-1"));
}

#[test]
fn results_are_shown_as_a_list() {
    let hit = Hit { title: "A <strong>B</strong>\nC".to_owned(), ..hit("2026") };
    let query = Query { count: 1, ..query() };
    assert_eq!(shown(&query, &[hit.clone(), hit]), "1. A B C\n   https://x.example/ (2026)\n   about");
    assert!(shown(&query, &[]).contains("nothing was found"));
}
