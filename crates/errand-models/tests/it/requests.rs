//! What each dialect is sent: conversation, tools, images, forms of the answer, and what a provider wants back.

use crate::exchange::{Exchange, exchanges};
use crate::server::{Answer, Server};
use crate::support::{KEY, request, settings};
use async_trait::async_trait;
use errand_core::{Hash, Image, Message, ModelErrorKind, ModelRequest, OutputSchema};
use errand_engine::ports::{Blobs, Models, PortError};
use errand_models::{AZURE_KEY, Azure, Dialect, Providers, Secret, Settings};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

fn exchange(dialect: Dialect) -> Exchange {
    exchanges().into_iter().rfind(|exchange| exchange.dialect == dialect).unwrap()
}

/// Sends `request` and gives back the head and the body that came.
async fn sent(request: &ModelRequest, dialect: Dialect, change: impl Fn(Settings) -> Settings) -> (String, Value) {
    let server = Server::saying(Answer::chunks(&[exchange(dialect).stream.as_bytes()], true)).await;
    let providers = Providers::new(&change(settings(&server.base, dialect))).unwrap().with_blobs(Arc::new(OneBlob));
    providers.call(request, &()).await.unwrap();
    (server.requests()[0].split("\r\n\r\n").next().unwrap().to_owned(), server.body())
}

async fn body(request: &ModelRequest, dialect: Dialect) -> Value {
    sent(request, dialect, |settings| settings).await.1
}

/// The text of a picture; nobody looks at it here.
const PICTURE: &[u8] = b"picture";

/// Blobs that hold the picture.
struct OneBlob;

#[async_trait]
impl Blobs for OneBlob {
    async fn put(&self, bytes: &[u8]) -> Result<Hash, PortError> {
        Ok(Hash::of(bytes))
    }

    async fn get(&self, hash: &Hash) -> Result<Option<Vec<u8>>, PortError> {
        Ok((*hash == Hash::of(PICTURE)).then(|| PICTURE.to_vec()))
    }
}

fn showing(media_type: &str, bytes: &[u8]) -> ModelRequest {
    let image = Image { media_type: media_type.to_owned(), bytes: bytes.len() as u64, sha256: Hash::of(bytes) };
    let messages = vec![Message::User { text: "What is this?".to_owned(), images: vec![image] }];
    ModelRequest { messages, tools: Vec::new(), ..request() }
}

#[tokio::test]
async fn anthropic_is_told_all_there_is_to_say() {
    let (head, body) =
        sent(&request(), Dialect::Anthropic, |settings| Settings { reasoning_summaries: true, ..settings }).await;
    assert!(head.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("x-api-key: {KEY}\r\n")) && !head.contains("authorization"), "{head}");
    assert!(head.contains("anthropic-version: 2023-06-01\r\n"), "{head}");
    let mark = json!({"type": "ephemeral"});
    let expected = json!({
        "model": "test-model",
        "max_tokens": 100,
        "stream": true,
        "thinking": {"type": "adaptive", "display": "summarized"},
        "tools": [{"name": "files", "description": "Reads files.", "input_schema": {"type": "object"}, "cache_control": mark}],
        "system": [{"type": "text", "text": "Be brief.", "cache_control": mark}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What is in a.csv?", "cache_control": mark}]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "c1", "name": "files", "input": {"action": "read"}},
                {"type": "tool_use", "id": "c2", "name": "no_such", "input": {"malformed": "{\"broken\": "}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "x,y"},
                {"type": "tool_result", "tool_use_id": "c2", "content": "no", "is_error": true, "cache_control": mark},
            ]},
        ],
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn what_anthropic_would_refuse_is_put_into_a_form_it_takes() {
    let mut request = request();
    request.messages.insert(4, Message::user("Hurry."));
    request.messages.push(Message::Assistant { text: " \n".to_owned(), calls: vec![], opaque: None });
    request.messages.push(Message::user("  "));
    let Message::Assistant { calls, .. } = &mut request.messages[2] else { panic!() };
    calls[0].id = "functions.files:0".to_owned();
    let body = body(&request, Dialect::Anthropic).await;
    let turns = body["messages"].as_array().unwrap();
    let roles: Vec<&str> = turns.iter().map(|turn| turn["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant", "user"]);
    // Results come first, blank text is none, ids have the form that is taken.
    let kinds: Vec<&str> =
        turns[2]["content"].as_array().unwrap().iter().map(|block| block["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["tool_result", "tool_result", "text"]);
    assert_eq!(turns[3]["content"], json!([{"type": "text", "text": "(nothing)"}]));
    assert_eq!(turns[4]["content"][0]["text"], "(nothing)");
    let id = turns[1]["content"][1]["id"].as_str().unwrap();
    assert!(!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
}

#[tokio::test]
async fn a_longer_conversation_begins_as_the_shorter_one_did() {
    for exchange in exchanges() {
        let first = request();
        let mut second = first.clone();
        second.messages.push(Message::Assistant { text: "Done.".to_owned(), calls: vec![], opaque: None });
        second.messages.push(Message::user("And now?"));
        let (first, second) = (body(&first, exchange.dialect).await, body(&second, exchange.dialect).await);
        let said = |body: &Value| {
            let mut said = ["messages", "input", "contents"].iter().find_map(|name| body.get(*name)).unwrap().clone();
            // Marks of the cache move on and are no part of what is cached.
            for message in said.as_array_mut().unwrap() {
                for block in message.get_mut("content").and_then(Value::as_array_mut).into_iter().flatten() {
                    block.as_object_mut().unwrap().remove("cache_control");
                }
            }
            said.as_array().unwrap().clone()
        };
        assert!(said(&second).starts_with(&said(&first)), "{}", exchange.name);
        for fixed in ["tools", "system", "systemInstruction"] {
            assert_eq!(first.get(fixed), second.get(fixed), "{}", exchange.name);
        }
    }
}

#[tokio::test]
async fn gemini_is_told_all_there_is_to_say() {
    let (head, body) =
        sent(&request(), Dialect::Gemini, |settings| Settings { reasoning_summaries: true, ..settings }).await;
    assert!(head.starts_with("POST /v1/models/test-model:streamGenerateContent?alt=sse HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("x-goog-api-key: {KEY}\r\n")), "{head}");
    let expected = json!({
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "What is in a.csv?"}]},
            {"role": "model", "parts": [
                {"text": "I look."},
                {"functionCall": {"name": "files", "args": {"action": "read"}},
                 "thoughtSignature": "skip_thought_signature_validator"},
                {"functionCall": {"name": "no_such", "args": {"malformed": "{\"broken\": "}}},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "files", "response": {"output": "x,y"}}},
                {"functionResponse": {"name": "no_such", "response": {"error": "no"}}},
            ]},
        ],
        "tools": [{"functionDeclarations": [
            {"name": "files", "description": "Reads files.", "parametersJsonSchema": {"type": "object"}},
        ]}],
        "generationConfig": {"maxOutputTokens": 100, "thinkingConfig": {"includeThoughts": true}},
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn ollama_is_told_how_much_it_must_keep_in_mind() {
    let (head, body) = sent(&request(), Dialect::Ollama, |settings| settings).await;
    assert!(head.starts_with("POST /api/chat HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("authorization: Bearer {KEY}\r\n")), "{head}");
    let expected = json!({
        "model": "test-model",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is in a.csv?"},
            {"role": "assistant", "content": "I look.", "tool_calls": [
                {"id": "c1", "function": {"name": "files", "arguments": {"action": "read"}}},
                {"id": "c2", "function": {"name": "no_such", "arguments": {"malformed": "{\"broken\": "}}},
            ]},
            {"role": "tool", "tool_name": "files", "tool_call_id": "c1", "content": "x,y"},
            {"role": "tool", "tool_name": "no_such", "tool_call_id": "c2", "content": "no"},
        ],
        "tools": [{"type": "function", "function":
            {"name": "files", "description": "Reads files.", "parameters": {"type": "object"}}}],
        "think": true,
        "options": {"num_ctx": 32_768, "num_predict": 100},
        "truncate": false,
        "shift": false,
        "stream": true,
    });
    assert_eq!(body, expected);
    // The model of the test takes no more than 40,960.
    let wide = |settings| Settings { ollama_context_tokens: 200_000, ..settings };
    let (_, body) = sent(&request(), Dialect::Ollama, wide).await;
    assert_eq!(body["options"]["num_ctx"], 40_960);
}

#[tokio::test]
async fn azure_gets_its_key_in_its_own_header_and_the_deployment_in_the_path() {
    for (version, path) in [
        (None, "/openai/v1/chat/completions"),
        (Some("2024-10-21"), "/openai/deployments/mine/chat/completions?api-version=2024-10-21"),
    ] {
        let server = Server::saying(Answer::chunks(&[exchange(Dialect::Chat).stream.as_bytes()], true)).await;
        let endpoint = Some(server.base.trim_end_matches("/v1").to_owned());
        let azure = Azure { endpoint, api_version: version.map(str::to_owned), deployment: None };
        let keys = BTreeMap::from([(AZURE_KEY, Secret::new(KEY))]);
        let providers = Providers::new(&Settings { azure, keys, ..Settings::default() }).unwrap();
        let request = ModelRequest { model: "azure/mine".to_owned(), ..request() };
        providers.call(&request, &()).await.unwrap();
        let head = &server.requests()[0];
        assert!(head.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{head}");
        assert!(head.contains(&format!("api-key: {KEY}\r\n")) && !head.contains("Bearer"), "{head}");
        assert_eq!((&server.body()["model"], &server.body()["max_completion_tokens"]), (&json!("mine"), &json!(100)));
    }
}

#[tokio::test]
async fn images_are_shown_in_every_dialect() {
    let request = showing("image/png", PICTURE);
    let base64 = "cGljdHVyZQ==";
    let url = format!("data:image/png;base64,{base64}");
    for (dialect, pointer, expected) in [
        (Dialect::Chat, "/messages/0/content/0", json!({"type": "image_url", "image_url": {"url": url}})),
        (Dialect::Responses, "/input/0/content/0", json!({"type": "input_image", "image_url": url})),
        (
            Dialect::Anthropic,
            "/messages/0/content/0",
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": base64}}),
        ),
        (Dialect::Gemini, "/contents/0/parts/0", json!({"inlineData": {"mimeType": "image/png", "data": base64}})),
        (Dialect::Ollama, "/messages/0/images", json!([base64])),
    ] {
        let body = body(&request, dialect).await;
        assert_eq!(body.pointer(pointer), Some(&expected), "{dialect:?}: {body}");
        assert!(body.to_string().contains("What is this?"));
    }
}

#[tokio::test]
async fn images_that_cannot_be_shown_are_refused_before_anything_is_sent() {
    let server = Server::saying(Answer::json("200 OK", "{}")).await;
    let at = |dialect| Providers::new(&settings(&server.base, dialect)).unwrap();
    let large = ModelRequest { messages: showing("image/png", PICTURE).messages, ..request() };
    let mut large = large;
    let Message::User { images, .. } = &mut large.messages[0] else { panic!() };
    images[0].bytes = 1 << 40;
    for (providers, request, what) in [
        (at(Dialect::Chat), showing("image/png", PICTURE), "no store of blobs"),
        (at(Dialect::Chat).with_blobs(Arc::new(OneBlob)), showing("image/png", b"lost"), "gone from the data folder"),
        (at(Dialect::Gemini).with_blobs(Arc::new(OneBlob)), showing("image/gif", PICTURE), "no images of type image/gif"),
        (at(Dialect::Anthropic).with_blobs(Arc::new(OneBlob)), showing("image/tiff", PICTURE), "image/tiff"),
        (at(Dialect::Chat).with_blobs(Arc::new(OneBlob)), large, "show fewer or smaller"),
    ] {
        let error = providers.call(&request, &()).await.unwrap_err();
        assert_eq!((error.kind, error.may_be_charged), (ModelErrorKind::BadRequest, false), "{error}");
        assert!(error.message.contains(what), "{error}");
    }
    let keys = BTreeMap::from([("OPENAI_API_KEY", Secret::new("k"))]);
    let providers = Providers::new(&Settings { keys, ..Settings::default() }).unwrap();
    let blind = ModelRequest { model: "openai/o3-mini".to_owned(), ..showing("image/png", PICTURE) };
    let error = providers.call(&blind, &()).await.unwrap_err();
    assert!(error.message.contains("takes no images"), "{error}");
    assert!(server.requests().is_empty());
}

fn asking_for(schema: &Value, with_tools: bool) -> ModelRequest {
    let output = Some(OutputSchema { name: "answer".to_owned(), schema: schema.to_string() });
    let request = request();
    ModelRequest { output, tools: if with_tools { request.tools.clone() } else { Vec::new() }, ..request }
}

#[tokio::test]
async fn the_form_of_an_answer_is_asked_for_as_each_vendor_has_it() {
    let strict = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"],
                        "additionalProperties": false});
    let loose = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}});
    for (dialect, pointer, expected) in [
        (
            Dialect::Chat,
            "/response_format",
            json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": strict, "strict": true}}),
        ),
        (
            Dialect::Responses,
            "/text/format",
            json!({"type": "json_schema", "name": "answer", "schema": strict, "strict": true}),
        ),
        (Dialect::Anthropic, "/output_config/format", json!({"type": "json_schema", "schema": strict})),
        (Dialect::Gemini, "/generationConfig/responseJsonSchema", strict.clone()),
        (Dialect::Ollama, "/format", strict.clone()),
    ] {
        let body = body(&asking_for(&strict, false), dialect).await;
        assert_eq!(body.pointer(pointer), Some(&expected), "{dialect:?}: {body}");
    }
    let chat = body(&asking_for(&loose, false), Dialect::Chat).await;
    assert_eq!(chat["response_format"]["json_schema"]["strict"], false);
    let anthropic = body(&asking_for(&loose, false), Dialect::Anthropic).await;
    assert_eq!(
        anthropic["output_config"]["format"]["schema"],
        json!({"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": false})
    );
}

/// What llama-cpp-python's server (0.3.36) says of a form that it does not know.
const FORM_UNKNOWN: &str = r#"{"error":{"message":"1 validation error:\n  {'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'msg': \"Input should be 'text' or 'json_object'\", 'input': 'json_schema', 'ctx': {'expected': \"'text' or 'json_object'\"}}","type":"internal_server_error","param":null,"code":null}}"#;

#[tokio::test]
async fn a_server_that_knows_only_the_older_form_is_asked_in_it_from_then_on() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    let answers = Answer::chunks(&[exchange(Dialect::Chat).stream.as_bytes()], true);
    let unknown = Answer::json("500 Internal Server Error", FORM_UNKNOWN);
    let server = {
        let unknown = unknown.clone();
        Server::start(move |number| if number == 0 { unknown.clone() } else { answers.clone() }).await
    };
    let providers = Providers::new(&settings(&server.base, Dialect::Chat)).unwrap();
    let request = asking_for(&schema, false);
    providers.call(&request, &()).await.unwrap();
    providers.call(&request, &()).await.unwrap();
    let form = |request: &String| {
        let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
        body["response_format"].clone()
    };
    let sent: Vec<Value> = server.requests().iter().map(form).collect();
    let older = json!({"type": "json_object", "schema": schema});
    assert_eq!(sent[0]["type"], "json_schema");
    assert_eq!(sent[1..], [older.clone(), older]);

    // Refused in both ways, it is told once, and not tried without end.
    let server = Server::saying(unknown).await;
    let providers = Providers::new(&settings(&server.base, Dialect::Chat)).unwrap();
    let error = providers.call(&request, &()).await.unwrap_err();
    assert!(error.message.contains("response_format"), "{error}");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_form_that_would_keep_the_model_from_its_tools_is_told_in_words() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": true});
    for (dialect, enforced) in [
        (Dialect::Chat, "response_format"),
        (Dialect::Ollama, "format"),
        // An open object is what Anthropic cannot enforce.
        (Dialect::Anthropic, "output_config"),
    ] {
        let body = body(&asking_for(&schema, true), dialect).await;
        assert_eq!(body.get(enforced), None, "{body}");
        let told = ["/messages/1/content", "/system/1/text"].iter().find_map(|pointer| body.pointer(pointer)?.as_str());
        assert!(told.unwrap().contains("must be JSON that fits this schema"), "{body}");
    }
    let broken =
        ModelRequest { output: Some(OutputSchema { name: "answer".to_owned(), schema: "{".to_owned() }), ..request() };
    let providers = Providers::new(&settings("http://127.0.0.1:9/v1", Dialect::Responses)).unwrap();
    assert_eq!(providers.call(&broken, &()).await.unwrap_err().kind, ModelErrorKind::BadRequest);
}

/// What is found in the next request after the exchange's own reply, with the model it came from and with another.
async fn after(exchange: &Exchange) -> (Value, Value) {
    let stream = exchange.stream.clone();
    let server = Server::start(move |_| Answer::chunks(&[stream.as_bytes()], true)).await;
    let providers = Providers::new(&settings(&server.base, exchange.dialect)).unwrap();
    let mut request = request();
    let reply = providers.call(&request, &()).await.unwrap();
    let call = reply.calls[0].clone();
    request.messages.push(Message::Assistant { text: reply.text, calls: reply.calls, opaque: reply.opaque });
    request.messages.push(Message::Tool { call_id: call.id, name: call.name, text: "ok".to_owned(), is_error: false });
    providers.call(&request, &()).await.unwrap();
    request.model = "other-model".to_owned();
    providers.call(&request, &()).await.unwrap();
    let bodies: Vec<Value> = server
        .requests()
        .iter()
        .map(|request| serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap())
        .collect();
    (bodies[1].clone(), bodies[2].clone())
}

#[tokio::test]
async fn what_a_provider_wants_back_goes_back_in_its_place_and_to_nobody_else() {
    let exchange = |dialect| exchange(dialect);
    let (same, other) = after(&exchange(Dialect::Responses)).await;
    let items = same["input"].as_array().unwrap();
    assert_eq!(
        items[items.len() - 4..],
        [
            json!({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}],
                   "encrypted_content": "gAAAAABo"}),
            json!({"role": "assistant", "content": "Grüße", "phase": "commentary"}),
            json!({"type": "function_call", "call_id": "call_a", "name": "files", "arguments": "{\"a\":1}"}),
            json!({"type": "function_call_output", "call_id": "call_a", "output": "ok"}),
        ]
    );
    assert!(!other.to_string().contains("gAAAAABo") && other.to_string().contains("Grüße"), "{other}");

    let (same, other) = after(&exchange(Dialect::Anthropic)).await;
    let turns = same["messages"].as_array().unwrap();
    let blocks = &turns[turns.len() - 2]["content"];
    assert_eq!(
        *blocks,
        json!([
            {"type": "thinking", "thinking": "I need to find the GCD of 1071 and 462 ÷ by ÷.",
             "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pk="},
            {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"},
            {"type": "text", "text": "The greatest 🚀"},
            {"type": "tool_use", "id": "toolu_1", "name": "clock", "input": {}},
        ])
    );
    assert!(!other.to_string().contains("thinking"), "{other}");

    let (same, other) = after(&exchange(Dialect::Gemini)).await;
    let entries = same["contents"].as_array().unwrap();
    let part = &entries[entries.len() - 2]["parts"][0];
    assert_eq!(part["functionCall"], json!({"name": "now", "args": {}}));
    assert!(part["thoughtSignature"].as_str().unwrap().starts_with("CiIBVKhc7vB"), "{part}");
    assert_eq!(
        entries[entries.len() - 1]["parts"][0]["functionResponse"],
        json!({"name": "now", "response": {"output": "ok"}})
    );
    assert!(!other.to_string().contains("CiIBVKhc7vB"), "{other}");

    let (same, other) = after(&exchange(Dialect::Ollama)).await;
    assert!(same["messages"].to_string().contains("Okay, the user asks"), "{same}");
    assert!(!other.to_string().contains("Okay, the user asks"), "{other}");
}

#[tokio::test]
async fn refusals_and_blocks_are_told_apart_from_answers() {
    use crate::exchange::fixture;
    use errand_core::Finish;
    for (name, dialect, text) in [
        ("anthropic_refusal", Dialect::Anthropic, "This request was refused due to policy."),
        ("gemini_blocked", Dialect::Gemini, "text1"),
    ] {
        let reply = crate::support::ask(Answer::chunks(&[fixture(name).as_bytes()], true), dialect).await.unwrap();
        assert_eq!((reply.finish, reply.text.as_str()), (Finish::Refused, text));
    }
    let body = fixture("gemini_bad_key");
    let error = crate::support::ask(Answer::json("400 Bad Request", &body), Dialect::Gemini).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Auth, "{error}");
}

#[tokio::test]
async fn why_a_model_stopped_decides_what_its_reply_is() {
    use errand_core::Finish;
    for (dialect, from, cases) in [
        (
            Dialect::Anthropic,
            "\"stop_reason\":\"tool_use\"",
            [
                ("\"stop_reason\":\"end_turn\"", Some(Finish::Stop)),
                ("\"stop_reason\":\"max_tokens\"", Some(Finish::Length)),
                ("\"stop_reason\":\"model_context_window_exceeded\"", Some(Finish::Length)),
                ("\"stop_reason\":\"pause_turn\"", Some(Finish::Length)),
                ("\"stop_reason\":null", None),
            ],
        ),
        (
            Dialect::Gemini,
            "\"finishReason\": \"STOP\"",
            [
                ("\"finishReason\": \"MAX_TOKENS\"", Some(Finish::Length)),
                ("\"finishReason\": \"PROHIBITED_CONTENT\"", Some(Finish::Refused)),
                ("\"finishReason\": \"MALFORMED_FUNCTION_CALL\"", None),
                ("\"finishReason\": \"OTHER\"", None),
                ("\"finishReason\": \"FINISH_REASON_UNSPECIFIED\"", None),
            ],
        ),
        (
            Dialect::Ollama,
            "\"done_reason\":\"stop\"",
            [
                ("\"done_reason\":\"length\"", Some(Finish::Length)),
                ("\"done_reason\":\"\"", Some(Finish::Stop)),
                ("\"done_reason\":\"load\"", None),
                ("\"done_reason\":\"unload\"", None),
                ("\"done_reason\":\"tool\"", Some(Finish::Stop)),
            ],
        ),
    ] {
        for (to, expected) in cases {
            let stream = exchange(dialect).stream.replace(from, to);
            let result = crate::support::ask(Answer::chunks(&[stream.as_bytes()], true), dialect).await;
            match expected {
                Some(finish) => assert_eq!(result.unwrap().finish, finish, "{to}"),
                None => assert_eq!(result.unwrap_err().kind, ModelErrorKind::Garbled, "{to}"),
            }
        }
    }
}
