//! The conversation with the model: bytes that only grow.

use anyhow::{Context, ensure};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// What stands before the conversation: as long as what Errand sends with its instructions and the tool `echo`.
const INSTRUCTIONS: &str = include_str!("../../../errand-cli/src/instructions.md");
const TOOL: &str = r#"{"type":"function","function":{"name":"echo","description":"Gives back the text it is given, unchanged. Of use to try out tool calls.","parameters":{"additionalProperties":false,"properties":{"text":{"description":"The text.","maxLength":100000,"type":"string"}},"required":["text"],"type":"object"}}}"#;
const END: &[u8] = b"]}";

/// The client, ready to ask.
pub(super) struct Talk {
    client: reqwest::Client,
    url: reqwest::Url,
    head: Vec<u8>,
}

impl Talk {
    pub(super) fn new(base_url: &str) -> anyhow::Result<Self> {
        // Set up as Errand's is, for a start to cost the same.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build()?;
        let instructions = serde_json::to_string(INSTRUCTIONS.trim_end())?;
        let head = format!(
            r#"{{"model":"bench","max_tokens":4096,"stream":true,"stream_options":{{"include_usage":true}},"tools":[{TOOL}],"messages":[{{"role":"system","content":{instructions}}},{{"role":"user","content":"#
        );
        Ok(Self { client, url: format!("{base_url}/chat/completions").parse()?, head: head.into_bytes() })
    }

    pub(super) fn conversation(&self, task: &str) -> Conversation {
        let mut bytes = self.head.clone();
        // A task of the benchmark holds nothing that JSON escapes.
        bytes.extend_from_slice(format!(r#""{task}"}}"#).as_bytes());
        Conversation { bytes }
    }

    /// The bytes of the next answer.
    pub(super) async fn ask(&self, conversation: &Conversation) -> anyhow::Result<Vec<u8>> {
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        let request = request.header(ACCEPT, "text/event-stream, application/json").body(conversation.body());
        let response = request.send().await?;
        ensure!(response.status().is_success(), "the model answers {}", response.status());
        Ok(response.bytes().await?.to_vec())
    }
}

/// A request without its last two bytes.
pub(super) struct Conversation {
    bytes: Vec<u8>,
}

impl Conversation {
    fn body(&self) -> Vec<u8> {
        [&self.bytes, END].concat()
    }

    /// Appends what the model said and what came of it.
    pub(super) fn append(&mut self, reply: &Answer<'_>, result: &str) -> anyhow::Result<()> {
        let call = reply.call().context("there is no call to go on from")?;
        let said = Said { role: "assistant", content: "", tool_calls: [call] };
        self.bytes.push(b',');
        serde_json::to_writer(&mut self.bytes, &said)?;
        self.bytes.push(b',');
        serde_json::to_writer(&mut self.bytes, &Told { role: "tool", tool_call_id: &call.id, content: result })?;
        Ok(())
    }
}

#[derive(Serialize)]
struct Said<'a> {
    role: &'a str,
    content: &'a str,
    tool_calls: [&'a Call<'a>; 1],
}

#[derive(Serialize)]
struct Told<'a> {
    role: &'a str,
    tool_call_id: &'a str,
    content: &'a str,
}

/// An answer, as far as it matters.
#[derive(Deserialize)]
pub(super) struct Answer<'a> {
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    message: Message<'a>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    tool_calls: Vec<Call<'a>>,
}

#[derive(Deserialize, Serialize)]
pub(super) struct Call<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Deserialize, Serialize)]
struct Function<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    arguments: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Echo {
    text: String,
}

pub(super) fn read(answer: &[u8]) -> anyhow::Result<Answer<'_>> {
    serde_json::from_slice(answer).context("the model's answer is not the JSON of a reply")
}

impl Answer<'_> {
    fn call(&self) -> Option<&Call<'_>> {
        self.choices.first()?.message.tool_calls.first()
    }

    /// What the tool gives back; nothing once the model is done.
    pub(super) fn text(&self) -> anyhow::Result<Option<String>> {
        let Some(call) = self.call() else { return Ok(None) };
        let echo: Echo = serde_json::from_str(&call.function.arguments)?;
        Ok(Some(echo.text))
    }
}

/// What must be on the disk before the model is asked again: its answer and the tool's result.
pub(super) fn record(answer: &[u8], result: &Option<String>) -> Vec<u8> {
    [answer, result.as_deref().unwrap_or_default().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_the_one_before_with_more_at_its_end() {
        let talk = Talk::new("http://127.0.0.1:1").unwrap();
        let mut conversation = talk.conversation("bench/a-0/2/");
        let before = conversation.bytes.clone();
        let answer = br#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"echo","arguments":"{\"text\":\"hi\"}"}}]}}]}"#;
        let reply = read(answer).unwrap();
        let text = reply.text().unwrap().unwrap();
        assert_eq!(text, "hi");
        conversation.append(&reply, &text).unwrap();
        assert!(conversation.bytes.starts_with(&before));
        let body: serde_json::Value = serde_json::from_slice(&conversation.body()).unwrap();
        assert_eq!(body["messages"].as_array().unwrap().len(), 4);
        assert_eq!(body["messages"][3]["content"], "hi");
    }
}
