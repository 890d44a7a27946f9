//! What providers list, in the forms of each.

use crate::server::{Answer, Server, Then};
use crate::support::{KEY, settings};
use errand_models::{Dialect, Provider, Settings, State, survey};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);

async fn listed(dialect: Dialect, list: &str) -> (Provider, String) {
    let server = Server::saying(Answer::json("200 OK", list)).await;
    let mut found = survey(&settings(&server.base, dialect), None, WAIT).await.unwrap();
    assert_eq!(found.len(), 1, "an endpoint that was given stands for all");
    (found.remove(0), server.requests()[0].clone())
}

/// Forms of <https://developers.openai.com/api/reference/resources/models>, <https://openrouter.ai/docs/api/reference>,
/// <https://platform.claude.com/docs/en/api/models-list>, <https://ai.google.dev/api/models> and
/// <https://docs.ollama.com/api/tags>, 2026-11-21.
#[tokio::test]
async fn each_dialect_lists_its_models_with_what_it_tells_of_them() {
    let openrouter = r#"{"data":[{"id":"a/b","context_length":8192,"supported_parameters":["tools"],
        "architecture":{"input_modalities":["text","image"]}},{"object":"model"}]}"#;
    let anthropic = r#"{"data":[{"type":"model","id":"claude-x","max_input_tokens":200000,
        "capabilities":{"image_input":{"supported":true},"thinking":{"supported":false}}}],"has_more":false}"#;
    let gemini = r#"{"models":[
        {"name":"models/gemini-x","inputTokenLimit":1048576,"thinking":true,"supportedGenerationMethods":["generateContent"]},
        {"name":"models/embedding-x","supportedGenerationMethods":["embedContent"]}]}"#;
    let ollama = r#"{"models":[{"name":"qwen3:8b","size":5},{"model":"llama3:latest"},{"name":"nomic-embed-text"}]}"#;
    for (dialect, list, path, names, context) in [
        (Dialect::Chat, openrouter, "/v1/models", vec!["a/b"], Some(8_192)),
        (Dialect::Anthropic, anthropic, "/v1/models?limit=1000", vec!["claude-x"], Some(200_000)),
        (Dialect::Gemini, gemini, "/v1/models?pageSize=1000", vec!["gemini-x"], Some(1_048_576)),
        (Dialect::Ollama, ollama, "/api/tags", vec!["qwen3:8b", "llama3:latest"], None),
    ] {
        let (provider, request) = listed(dialect, list).await;
        assert!(matches!(provider.state, State::Ready { .. }));
        assert!(request.starts_with(&format!("GET {path} HTTP/1.1\r\n")) && request.contains(KEY), "{request}");
        let found: Vec<&str> = provider.models.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!((found, provider.models[0].1.context_tokens), (names, context), "{dialect:?}");
    }
}

#[tokio::test]
async fn a_provider_that_fails_or_is_silent_keeps_nobody_waiting() {
    for dialect in [Dialect::Chat, Dialect::Anthropic, Dialect::Gemini, Dialect::Ollama] {
        for list in ["nonsense", "null", "[]", r#"{"data":7,"models":"x"}"#, r#"{"data":[null,{"id":3}],"models":[[]]}"#] {
            let (provider, _) = listed(dialect, list).await;
            assert!(provider.models.is_empty(), "{dialect:?}: {list}");
        }
        let silent = Server::saying(Answer { bytes: Vec::new(), then: Then::Hold }).await;
        let found = survey(&settings(&silent.base, dialect), None, Duration::from_millis(30)).await.unwrap();
        assert!(matches!(&found[0].state, State::Failed { error } if error.message.contains("no list of models")));
    }
}

#[tokio::test]
async fn what_is_not_set_up_is_not_asked_and_says_what_to_set() {
    let nobody = Settings { ollama_url: "http://127.0.0.1:9".to_owned(), ..Settings::default() };
    let found = survey(&nobody, None, WAIT).await.unwrap();
    let unset: Vec<&str> =
        found.iter().filter(|provider| matches!(provider.state, State::Unset { .. })).map(|p| p.name).collect();
    assert_eq!(unset[..3], ["openai", "anthropic", "gemini"]);
    assert!(unset.contains(&"azure") && !unset.contains(&"ollama"));
    let only = survey(&nobody, Some("gemini"), WAIT).await.unwrap();
    assert!(matches!(only[0].state, State::Unset { variables: ["GEMINI_API_KEY", "GOOGLE_API_KEY"] }) && only.len() == 1);
}
