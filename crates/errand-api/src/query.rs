//! The query of a request's address, read strictly.

use crate::Failure;
use crate::fields::{invalid, wrong};
use serde_json::Value;
use std::collections::BTreeMap;

/// The parameters, taken out one by one. What is left at the end is unknown.
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    /// The parameters of `query`, as it stands behind the `?`.
    pub(crate) fn read(query: Option<String>) -> Result<Self, Failure> {
        let mut map = BTreeMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                return Err(Failure::bad("query_invalid", "the query of the address is not percent-encoded UTF-8"));
            };
            if map.insert(name.clone(), value).is_some() {
                return Err(invalid(&name, "it is given twice"));
            }
        }
        Ok(Self(map))
    }

    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, Failure> {
        self.text(name)
            .map(|text| text.to_ascii_lowercase().parse().map_err(|_| wrong(name, "true or false", &Value::String(text))))
            .transpose()
    }

    pub(crate) fn count(&mut self, name: &str) -> Result<Option<u64>, Failure> {
        self.text(name)
            .map(|text| text.parse().map_err(|_| wrong(name, "a whole number, 0 or more", &Value::String(text))))
            .transpose()
    }

    /// Refuses what is left.
    pub(crate) fn end(self) -> Result<(), Failure> {
        match self.0.into_keys().next() {
            Some(name) => {
                let name: String = name.chars().take(80).collect();
                let message = format!("`{name}` is not known here: leave it out, or check how it is spelt");
                Err(Failure::bad("unknown_parameter", message).at(name))
            }
            None => Ok(()),
        }
    }
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_strictly() {
        let mut query = Query::read(Some("stream=True&a=1%20%C3%A4&n=7".to_owned())).unwrap();
        assert_eq!(query.flag("stream").unwrap(), Some(true));
        assert_eq!(query.text("a").as_deref(), Some("1 ä"));
        assert_eq!(query.count("n").unwrap(), Some(7));
        assert!(query.end().is_ok());
        assert_eq!(Query::read(Some("x=1".to_owned())).unwrap().end().unwrap_err().param.as_deref(), Some("x"));
        for wrong in ["a=%", "a=%f", "a=%zz", "a=%ff", "a=1&a=2"] {
            assert!(Query::read(Some(wrong.to_owned())).is_err(), "{wrong}");
        }
        assert_eq!(Query::read(Some("n=-1".to_owned())).unwrap().count("n").unwrap_err().code, "parameter_type");
    }
}
