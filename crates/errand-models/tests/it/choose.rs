//! Which model is taken when nobody names one.

use crate::server::{Answer, Server, Then};
use errand_models::{
    ANTHROPIC_DEFAULT, AZURE_KEY, Azure, GEMINI_DEFAULT, OPENAI_DEFAULT, SCRIPT_DEFAULT, Secret, Settings, Timeouts,
    choose_default,
};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::net::TcpListener;

async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/v1", listener.local_addr().unwrap())
}

async fn with_ollama(answer: Answer) -> (Server, Settings) {
    let server = Server::saying(answer).await;
    let timeouts = Timeouts { probe: Duration::from_secs(20), ..Timeouts::default() };
    let settings = Settings { ollama_url: server.base.clone(), timeouts, ..Settings::default() };
    (server, settings)
}

/// In the form of <https://docs.ollama.com/api/tags> (2026-11-21).
const TAGS: &str = r#"{"models":[{"name":"nomic-embed-text:latest"},{"name":"qwen3:8b","size":5200000000}]}"#;
const MODELS: &str =
    r#"{"object":"list","data":[{"id":"nomic-embed-text:latest","object":"model"},{"id":"qwen3:8b","object":"model"}]}"#;

#[tokio::test]
async fn a_key_goes_before_ollama_and_ollama_before_the_script() {
    let (server, settings) = with_ollama(Answer::json("200 OK", TAGS)).await;
    let choice = choose_default(&settings).await.unwrap();
    assert_eq!((choice.model.as_str(), choice.why.as_str()), ("ollama/qwen3:8b", "a local Ollama answers"));
    assert!(server.requests()[0].starts_with("GET /api/tags HTTP/1.1\r\n"));

    let key = |name| BTreeMap::from([(name, Secret::new("k"))]);
    for (variable, model) in [
        ("OPENAI_API_KEY", OPENAI_DEFAULT),
        ("ANTHROPIC_API_KEY", ANTHROPIC_DEFAULT),
        ("GOOGLE_API_KEY", GEMINI_DEFAULT),
        (AZURE_KEY, "azure/mine"),
    ] {
        let azure = Azure { endpoint: Some("https://r.example".into()), deployment: Some("mine".into()), api_version: None };
        let keyed = Settings { keys: key(variable), azure, ..settings.clone() };
        let choice = choose_default(&keyed).await.unwrap();
        assert_eq!(choice.model, model);
        assert!(choice.why.ends_with("is set"), "{}", choice.why);
    }
    assert_eq!(server.requests().len(), 1, "Ollama is not asked where a key decides");

    let alone = Settings { ollama_url: nobody().await, ..settings };
    let choice = choose_default(&alone).await.unwrap();
    assert_eq!(choice.model, SCRIPT_DEFAULT);
    assert!(choice.why.contains("OPENAI_API_KEY"), "{}", choice.why);
    let groq = Settings { keys: key("GROQ_API_KEY"), ..alone };
    let choice = choose_default(&groq).await.unwrap();
    assert_eq!(choice.model, SCRIPT_DEFAULT);
    assert!(choice.why.contains("errand models groq"), "{}", choice.why);
}

#[tokio::test]
async fn an_ollama_that_is_no_use_leaves_the_script() {
    for answer in [
        Answer::json("200 OK", r#"{"models":null}"#),
        Answer::json("500 Internal Server Error", ""),
        Answer::json("200 OK", "nonsense"),
    ] {
        let (_server, settings) = with_ollama(answer).await;
        assert_eq!(choose_default(&settings).await.unwrap().model, SCRIPT_DEFAULT);
    }
    let (_server, mut settings) = with_ollama(Answer { bytes: Vec::new(), then: Then::Hold }).await;
    settings.timeouts.probe = Duration::from_millis(30);
    assert_eq!(choose_default(&settings).await.unwrap().model, SCRIPT_DEFAULT);
}

#[tokio::test]
async fn an_endpoint_that_was_given_is_never_passed_over() {
    let server = Server::saying(Answer::json("200 OK", MODELS)).await;
    let given = Settings {
        base_url: Some(server.base.clone()),
        keys: BTreeMap::from([("OPENAI_API_KEY", Secret::new("openai-only"))]),
        ..Settings::default()
    };
    assert_eq!(choose_default(&given).await.unwrap().model, "qwen3:8b");
    assert!(!server.requests()[0].contains("openai-only"), "OpenAI's key goes to OpenAI only");
    let gone = Settings { base_url: Some(nobody().await), ..given };
    let error = choose_default(&gone).await.unwrap_err();
    assert!(error.to_string().contains("--model"), "{error}");
}
