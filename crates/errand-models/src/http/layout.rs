//! How a reply was laid out: what the provider wants back with it, and where that stood among text and calls.
//!
//! Signed and encrypted reasoning counts only in its place. Text and calls are not repeated here: a piece tells how much
//! of the reply's text, or that the next call, stood there.

use errand_core::{Opaque, RequestedCall};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The pieces of a reply, in order.
#[derive(Debug, Default)]
pub(crate) struct Layout(Vec<Piece>);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Piece {
    /// Something that is sent back as it came.
    Kept(Value),
    /// So many bytes of the reply's text, and fields that go back beside them.
    Text {
        bytes: usize,
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        with: Map<String, Value>,
    },
    /// The next call, and fields that go back beside it.
    Call {
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        with: Map<String, Value>,
    },
}

impl Layout {
    pub(crate) fn keep(&mut self, value: Value) {
        self.0.push(Piece::Kept(value));
    }

    /// Text without fields of its own joins the text before it that has none either.
    pub(crate) fn text(&mut self, added: usize, with: Map<String, Value>) {
        match self.0.last_mut() {
            Some(Piece::Text { bytes, with: before }) if before.is_empty() && with.is_empty() => *bytes += added,
            _ if added == 0 && with.is_empty() => {}
            _ => self.0.push(Piece::Text { bytes: added, with }),
        }
    }

    pub(crate) fn call(&mut self, with: Map<String, Value>) {
        self.0.push(Piece::Call { with });
    }

    /// What goes on the record: nothing where the provider wants nothing back.
    pub(crate) fn into_opaque(self, origin: String) -> Option<Opaque> {
        let matters = |piece: &Piece| match piece {
            Piece::Kept(_) => true,
            Piece::Text { with, .. } | Piece::Call { with } => !with.is_empty(),
        };
        if !self.0.iter().any(matters) {
            return None;
        }
        let content = serde_json::to_string(&self.0).ok()?;
        Some(Opaque { origin, content })
    }
}

/// A part of a reply that is sent back.
#[derive(Debug, PartialEq)]
pub(crate) enum Part<'a> {
    Kept(Value),
    Text(&'a str, Map<String, Value>),
    Call(&'a RequestedCall, Map<String, Value>),
}

/// A reply in parts: as it was laid out, if it came from `origin`, else its text and then its calls.
pub(crate) fn parts<'a>(text: &'a str, calls: &'a [RequestedCall], opaque: Option<&Opaque>, origin: &str) -> Vec<Part<'a>> {
    let opaque = opaque.filter(|opaque| opaque.origin == origin);
    let pieces = opaque.and_then(|opaque| serde_json::from_str::<Vec<Piece>>(&opaque.content).ok());
    pieces.and_then(|pieces| laid_out(pieces, text, calls)).unwrap_or_else(|| {
        let said = (!text.is_empty()).then(|| Part::Text(text, Map::new()));
        said.into_iter().chain(calls.iter().map(|call| Part::Call(call, Map::new()))).collect()
    })
}

/// Nothing if the pieces are not those of this text and these calls.
fn laid_out<'a>(pieces: Vec<Piece>, mut text: &'a str, calls: &'a [RequestedCall]) -> Option<Vec<Part<'a>>> {
    let mut calls = calls.iter();
    let mut parts = Vec::new();
    for piece in pieces {
        parts.push(match piece {
            Piece::Kept(value) => Part::Kept(value),
            Piece::Text { bytes, with } => {
                let (said, rest) = text.split_at_checked(bytes)?;
                text = rest;
                Part::Text(said, with)
            }
            Piece::Call { with } => Part::Call(calls.next()?, with),
        });
    }
    (text.is_empty() && calls.next().is_none()).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call() -> RequestedCall {
        RequestedCall { id: "c".to_owned(), name: "f".to_owned(), arguments: "{}".to_owned() }
    }

    fn signed() -> Map<String, Value> {
        Map::from_iter([("signature".to_owned(), json!("s"))])
    }

    fn opaque() -> Opaque {
        let mut layout = Layout::default();
        layout.text(1, Map::new());
        layout.text(2, Map::new());
        layout.keep(json!({"t": 1}));
        layout.call(signed());
        layout.into_opaque("here".to_owned()).unwrap()
    }

    #[test]
    fn a_reply_goes_back_as_it_was_laid_out() {
        let calls = [call()];
        let parts = parts("aß", &calls, Some(&opaque()), "here");
        let expected = vec![Part::Text("aß", Map::new()), Part::Kept(json!({"t": 1})), Part::Call(&calls[0], signed())];
        assert_eq!(parts, expected);
    }

    #[test]
    fn what_does_not_belong_to_it_is_left_out() {
        let calls = [call()];
        let plain = |text: &'static str| vec![Part::Text(text, Map::new()), Part::Call(&calls[0], Map::new())];
        assert_eq!(parts("aß", &calls, Some(&opaque()), "elsewhere"), plain("aß"));
        assert_eq!(parts("abcd", &calls, Some(&opaque()), "here"), plain("abcd"));
        assert_eq!(parts("aaß", &calls, Some(&opaque()), "here"), plain("aaß"));
        assert_eq!(parts("aß", &[], Some(&opaque()), "here"), vec![Part::Text("aß", Map::new())]);
        let nonsense = Opaque { content: "[7".to_owned(), ..opaque() };
        assert_eq!(parts("aß", &calls, Some(&nonsense), "here"), plain("aß"));
    }

    #[test]
    fn nothing_to_keep_is_nothing() {
        let mut layout = Layout::default();
        layout.text(3, Map::new());
        layout.call(Map::new());
        assert_eq!(layout.into_opaque(String::new()), None);
    }
}
