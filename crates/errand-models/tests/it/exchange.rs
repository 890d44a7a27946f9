//! Published exchanges of every dialect, each with the reply it makes.

use errand_core::{Finish, ModelErrorKind, ModelReply, Opaque, RequestedCall, Usage};
use errand_models::Dialect;
use serde_json::{Value, json};

/// One exchange, and what a dialect says where it goes wrong.
pub(crate) struct Exchange {
    pub(crate) name: &'static str,
    pub(crate) dialect: Dialect,
    /// The body of the answer.
    pub(crate) stream: String,
    /// From this byte on nothing of the reply is missing.
    pub(crate) whole_at: usize,
    /// The reply; its origin is filled in by whoever knows the host.
    pub(crate) reply: ModelReply,
    /// An event that says `hello`.
    pub(crate) hello: Value,
    /// What may come before it, if the dialect wants that.
    pub(crate) before: Vec<Value>,
    /// An event that is an error, with its kind.
    pub(crate) error: (Value, ModelErrorKind),
}

impl Exchange {
    /// The events as JSON.
    pub(crate) fn events(&self) -> Vec<Value> {
        let lines = self.stream.lines().filter_map(|line| match self.dialect {
            Dialect::Ollama => Some(line),
            _ => line.strip_prefix("data: ").filter(|data| *data != "[DONE]"),
        });
        lines.filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Events on the wire, with the mark of the end if the dialect has one.
    pub(crate) fn wire(&self, events: &[Value]) -> String {
        let one = |event: &Value| match self.dialect {
            Dialect::Ollama => format!("{event}\n"),
            _ => format!("data: {event}\n\n"),
        };
        let mark = if self.dialect == Dialect::Chat { "data: [DONE]\n\n" } else { "" };
        events.iter().map(one).collect::<String>() + mark
    }
}

/// The exchange of a file, without the lines that tell where it is from.
pub(crate) fn fixture(name: &str) -> String {
    let path = format!("{}/tests/fixtures/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let (about, stream) = text.split_once("\n\n").unwrap();
    assert!(about.contains("# source: https://") && about.contains("# read: 20"), "{name} tells no source");
    stream.to_owned()
}

fn reply(
    model: &str,
    text: &str,
    reasoning: &str,
    call: (&str, &str, &str),
    usage: [u64; 4],
    kept: Option<Value>,
) -> ModelReply {
    let [input_tokens, cached_input_tokens, output_tokens, reasoning_tokens] = usage;
    ModelReply {
        model: model.to_owned(),
        text: text.to_owned(),
        reasoning: reasoning.to_owned(),
        calls: vec![RequestedCall { id: call.0.to_owned(), name: call.1.to_owned(), arguments: call.2.to_owned() }],
        opaque: kept.map(|kept| Opaque { origin: String::new(), content: kept.to_string() }),
        finish: Finish::Stop,
        usage: Some(Usage { input_tokens, cached_input_tokens, output_tokens, reasoning_tokens }),
    }
}

/// One exchange for each dialect, and a second one of Anthropic's that thinks.
pub(crate) fn exchanges() -> Vec<Exchange> {
    vec![chat(), responses(), anthropic(), anthropic_thinking(), gemini(), ollama()]
}

fn chat() -> Exchange {
    let stream = fixture("chat_call");
    Exchange {
        name: "chat",
        dialect: Dialect::Chat,
        whole_at: stream.len() - "data: [DONE]\n\n".len(),
        stream,
        reply: reply("m-1", "Grüße", "Hm, ", ("call_a", "files", r#"{"a":1}"#), [20, 16, 9, 4], None),
        hello: json!({"choices": [{"index": 0, "delta": {"content": "hello"}}]}),
        before: vec![],
        error: (json!({"error": {"code": "server_error", "message": "echo KEY"}}), ModelErrorKind::Unavailable),
    }
}

fn responses() -> Exchange {
    let stream = fixture("responses_call");
    let kept = json!([
        {"kept": {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}],
                  "encrypted_content": "gAAAAABo"}},
        {"text": {"bytes": 7, "with": {"phase": "commentary"}}},
        {"call": {}},
    ]);
    Exchange {
        name: "responses",
        dialect: Dialect::Responses,
        whole_at: stream.len(),
        stream,
        reply: reply("m-2", "Grüße", "Hm.", ("call_a", "files", r#"{"a":1}"#), [30, 10, 12, 5], Some(kept)),
        hello: json!({"type": "response.output_text.delta", "output_index": 0, "delta": "hello"}),
        before: vec![],
        error: (json!({"type": "error", "code": "rate_limit_exceeded", "message": "echo KEY"}), ModelErrorKind::RateLimited),
    }
}

fn anthropic() -> Exchange {
    let stream = fixture("anthropic_tool_use");
    Exchange {
        name: "anthropic",
        whole_at: stream.find("event: message_stop").unwrap(),
        stream,
        reply: reply(
            "claude-sonnet-4-20250514",
            "I'll check the current weather in Paris for you.",
            "",
            ("toolu_01NRLabsLyVHZPKxbKvkfSMn", "get_weather", r#"{"location": "Paris"}"#),
            [377, 0, 65, 0],
            None,
        ),
        ..anthropic_thinking()
    }
}

fn anthropic_thinking() -> Exchange {
    let stream = fixture("anthropic_thinking");
    let thinking = "I need to find the GCD of 1071 and 462 ÷ by ÷.";
    let kept = json!([
        {"kept": {"type": "thinking", "thinking": thinking, "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pk="}},
        {"kept": {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"}},
        {"text": {"bytes": 17}},
        {"call": {}},
    ]);
    Exchange {
        name: "anthropic, thinking",
        dialect: Dialect::Anthropic,
        whole_at: stream.find("event: message_stop").unwrap(),
        stream,
        reply: reply(
            "claude-opus-5-5",
            "The greatest 🚀",
            thinking,
            ("toolu_1", "clock", "{}"),
            [129, 100, 30, 12],
            Some(kept),
        ),
        hello: json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}}),
        before: vec![json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})],
        error: (
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded KEY"}}),
            ModelErrorKind::Unavailable,
        ),
    }
}

fn gemini() -> Exchange {
    let stream = fixture("gemini_call");
    let signature = "CiIBVKhc7vB+vaaq6rA/KC79Ts7iXagIOA4EBOyBFDpl+pxPCmcBVKhc7gYyIw6X0IsswYK3hRIlOqJqLuw=";
    let thoughts = "**Calculating the Days**\n\n**Determining the Approach**\n\n";
    let kept = json!([{"call": {"with": {"thoughtSignature": signature}}}]);
    Exchange {
        name: "gemini",
        dialect: Dialect::Gemini,
        whole_at: stream.len(),
        stream,
        reply: reply("gemini-2.5-flash", "", thoughts, ("call_1_0", "now", "{}"), [38, 0, 174, 168], Some(kept)),
        hello: json!({"candidates": [{"content": {"parts": [{"text": "hello"}]}}]}),
        before: vec![],
        error: (
            json!({"error": {"code": 503, "message": "The model is overloaded. KEY", "status": "UNAVAILABLE"}}),
            ModelErrorKind::Unavailable,
        ),
    }
}

fn ollama() -> Exchange {
    let stream = fixture("ollama_call");
    let thinking = "Okay, the user asks for Toronto 🇨🇦.";
    let kept = json!([{"kept": {"thinking": thinking}}, {"text": {"bytes": 7}}, {"call": {}}]);
    Exchange {
        name: "ollama",
        dialect: Dialect::Ollama,
        whole_at: stream.len(),
        stream,
        reply: reply(
            "qwen3",
            "I look.",
            thinking,
            ("call_1_0", "get_current_weather", r#"{"format":"celsius","location":"Toronto"}"#),
            [26, 0, 282, 0],
            Some(kept),
        ),
        hello: json!({"model": "m", "message": {"role": "assistant", "content": "hello"}, "done": false}),
        before: vec![],
        error: (json!({"error": "an error was encountered while running the model: KEY"}), ModelErrorKind::Unavailable),
    }
}
