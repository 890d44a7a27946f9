//! Requests off the wire, and what is answered.

use memchr::memmem;
use std::io::Read;
use std::net::TcpStream;
use std::ops::Range;

/// Longest request taken, in bytes.
const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Length of what the model gives to the tool, which is what the tool gives back.
const TEXT_BYTES: usize = 1_024;

/// What the task in a request says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Which run.
    pub(super) run: String,
    /// How many calls it is to make; 0 to ask a person.
    pub(super) steps: usize,
}

impl Request {
    /// Finds `bench/RUN/STEPS/` in a body.
    pub(super) fn of(body: &[u8]) -> Option<Self> {
        let at = memmem::find(body, b"bench/")?;
        let rest = &body[at..body.len().min(at + 200)];
        let mut parts = std::str::from_utf8(rest).ok()?.split('/').skip(1);
        Some(Self { run: parts.next()?.to_owned(), steps: parts.next()?.parse().ok()? })
    }
}

/// Reads one request into `buffer`; where its body lies, or `None` at the end of the connection.
pub(super) fn read_request(connection: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Range<usize>>> {
    let broken = |what| Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
    buffer.clear();
    let mut chunk = [0; 64 << 10];
    let mut body: Option<Range<usize>> = None;
    loop {
        if body.as_ref().is_some_and(|body| buffer.len() >= body.end) {
            return Ok(body);
        }
        let count = connection.read(&mut chunk)?;
        if count == 0 {
            return Ok(None);
        }
        buffer.extend_from_slice(&chunk[..count]);
        if body.is_none()
            && let Some(end) = memmem::find(buffer, b"\r\n\r\n")
        {
            let Some(length) = content_length(&buffer[..end]) else { return broken("a request without a length") };
            body = Some(end + 4..end + 4 + length);
        }
        if buffer.len() > REQUEST_BYTES_MAX {
            return broken("a request that does not end");
        }
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

/// The answer to request `number` (from 1) of a run.
pub(super) fn answer(request: &Request, number: usize, request_bytes: usize) -> Vec<u8> {
    let message = match () {
        () if request.steps == 0 => call(number, "ask_user", r#"{\"question\":\"Which one?\"}"#),
        () if number <= request.steps => call(number, "echo", &format!(r#"{{\"text\":\"{}\"}}"#, text(number))),
        () => r#"{"role":"assistant","content":"All done."},"finish_reason":"stop""#.to_owned(),
    };
    let (input, output) = (request_bytes / 4, message.len() / 4);
    let body = format!(
        r#"{{"id":"chatcmpl-{number}","object":"chat.completion","created":1700000000,"model":"bench","choices":[{{"index":0,"message":{message}}}],"usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{}}}}}"#,
        input + output
    );
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.into_bytes(), body.into_bytes()].concat()
}

fn call(number: usize, tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"role":"assistant","content":null,"tool_calls":[{{"id":"call_{number}","type":"function","function":{{"name":"{tool}","arguments":"{arguments}"}}}}]}},"finish_reason":"tool_calls""#
    )
}

/// Text that does not repeat itself, another for each call.
fn text(number: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 .";
    let mut state = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let letter = || {
        // Xorshift, <https://www.jstatsoft.org/article/view/v008i14> (2026-11-21).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(LETTERS[(state >> 58) as usize])
    };
    std::iter::repeat_with(letter).take(TEXT_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_tells_what_to_answer() {
        let request = Request::of(br#"{"messages":[{"content":"bench/a-3/20/"}]}"#).unwrap();
        assert_eq!(request, Request { run: "a-3".to_owned(), steps: 20 });
        assert_eq!(Request::of(b"{}"), None);
        let answered = |number| String::from_utf8(answer(&request, number, 4_000)).unwrap();
        assert!(answered(20).contains("echo") && answered(21).contains("All done"));
        let body = answered(1).split_once("\r\n\r\n").unwrap().1.to_owned();
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        let arguments = value["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
        assert_eq!(arguments.len(), TEXT_BYTES + r#"{"text":""}"#.len());
        assert_ne!(text(1), text(2));
    }

    #[test]
    fn the_length_of_a_body_is_found_whatever_the_case() {
        assert_eq!(content_length(b"POST / HTTP/1.1\r\nContent-Length: 12\r\nHost: x"), Some(12));
        assert_eq!(content_length(b"POST / HTTP/1.1\r\ncontent-length:7"), Some(7));
        assert_eq!(content_length(b"POST / HTTP/1.1\r\nHost: x"), None);
    }
}
