//! Providers that refuse, are busy, or are not there: a small server on loopback stands in for them.

use super::User;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

/// Serves every request with the same answer, until the process ends.
fn provider(status: &'static str, headers: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                    break;
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut request = vec![0; length];
            let _ = reader.read_exact(&mut request);
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}connection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
    format!("http://{address}/v1")
}

fn run(url: &str) -> Vec<&str> {
    vec!["run", "t", "--model", "m", "--model-base-url", url]
}

#[test]
fn a_real_answer_comes_through() {
    let user = User::new();
    let body = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Forty-two.\"},\"finish_reason\":null}]}\n\n\
                data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
                data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3,\"total_tokens\":12}}\n\n\
                data: [DONE]\n\n";
    let url = provider("200 OK", "content-type: text/event-stream\r\n", body);
    let ended = user.expect(0, &run(&url));
    assert_eq!(ended.stdout.trim(), "Forty-two.");
    assert!(ended.stderr.contains("12 tokens") && ended.stderr.contains("$0.00"), "{ended:#?}");
    assert!(!ended.stderr.contains("script"), "{ended:#?}");
}

#[test]
fn a_wrong_key_ends_the_run_and_is_not_printed() {
    let user = User::new();
    let url =
        provider("401 Unauthorized", "content-type: application/json\r\n", "{\"error\":{\"message\":\"bad key sk-wrong\"}}");
    let mut command = user.command(&run(&url));
    command.env("ERRAND_MODEL_API_KEY", "sk-wrong");
    let ended = super::ended(command);
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.stderr.contains("model_auth") && !ended.stderr.contains("sk-wrong"), "{ended:#?}");
    assert_eq!(user.status(&user.newest()), "failed");
}

#[test]
fn a_busy_provider_is_waited_for_and_the_wait_can_be_handed_over() {
    let user = User::new();
    let url = provider("429 Too Many Requests", "retry-after: 3600\r\n", "{}");
    let mut running = user.start(&run(&url));
    running.wait_for("model_rate_limited");
    running.wait_for("waiting until");
    running.signal("INT");
    let ended = running.end();
    assert_eq!(ended.code, Some(130), "{ended:#?}");
    let run = user.newest();
    assert_eq!(user.status(&run), "running");
    user.expect(0, &["cancel", &run]);
}

#[test]
fn a_provider_that_is_down_is_tried_again() {
    let user = User::new();
    // A port that was free a moment ago, with nobody behind it.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}/v1");
    let mut running = user.start(&run(&url));
    running.wait_for("model_unreachable");
    running.wait_for("model_unreachable");
    running.signal("TERM");
    assert_eq!(running.end().code, Some(143));
    user.expect(0, &["cancel", &user.newest()]);
}

#[test]
fn a_dollar_budget_needs_a_price() {
    let user = User::new();
    // An address for documentation: nothing may be sent there before the price is known.
    let url = "http://192.0.2.1/v1";
    let dollars = [&run(url)[..], &["--budget", "1"]].concat();
    user.refused(2, "price_unknown", &dollars);
    assert!(user.json(0, &["runs"]).is_empty());
}

#[test]
fn an_endpoint_that_lists_no_model_is_told() {
    let user = User::new();
    let url = provider("404 Not Found", "", "");
    user.refused(2, "no_model_listed", &["run", "t", "--model-base-url", &url]);
}

#[test]
fn models_are_listed_with_what_is_known_and_how_to_get_the_others() {
    let user = User::new();
    let body = "{\"models\":[{\"name\":\"qwen3:8b\"},{\"name\":\"nomic-embed-text\"}],\"capabilities\":[\"completion\",\"tools\"],\
                \"model_info\":{\"general.architecture\":\"qwen3\",\"qwen3.context_length\":40960}}";
    let ollama = provider("200 OK", "content-type: application/json\r\n", body);
    let listed = |args: &[&str]| {
        let mut command = user.command(args);
        command.env("ERRAND_OLLAMA_URL", &ollama);
        super::ended(command)
    };
    let ended = listed(&["models"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    for line in ["OpenAI: set OPENAI_API_KEY", "Google Gemini: set GEMINI_API_KEY or GOOGLE_API_KEY", "  ollama/qwen3:8b"] {
        assert!(ended.stdout.contains(line), "{ended:#?}");
    }
    assert!(ended.stdout.contains("default: ollama/qwen3:8b (a local Ollama answers)"), "{ended:#?}");
    assert!(!ended.stdout.contains("nomic"), "{ended:#?}");
    let ended = listed(&["models", "ollama/qwen3:8b", "--json"]);
    let model: serde_json::Value = serde_json::from_str(ended.stdout.trim()).unwrap();
    assert_eq!((&model["context_tokens"], &model["tools"], &model["images"]), (&40_960.into(), &true.into(), &false.into()));
    user.refused(2, "model_unknown", &["models", "nobody/nothing"]);
}
