//! Reads JSON objects of callers strictly: what is missing, misspelt or of the wrong type is named by its path.

use crate::Failure;
use serde_json::{Map, Value};

/// The fields of one object, taken out one by one. What is left at the end is unknown.
pub(crate) struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    /// The fields of `value`, which must be an object. `path`: where it stands; empty for the whole body.
    pub(crate) fn of(value: Value, path: &str) -> Result<Self, Failure> {
        match value {
            Value::Object(map) => Ok(Self { path: path.to_owned(), map }),
            other => Err(wrong(path, "an object", &other)),
        }
    }

    /// The path of a field.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A field, unless it is absent or null.
    pub(crate) fn value(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// A field that must be there.
    pub(crate) fn required(&mut self, name: &str) -> Result<Value, Failure> {
        self.value(name).ok_or_else(|| {
            let path = self.path(name);
            Failure::bad("parameter_missing", format!("`{path}` is missing")).at(path)
        })
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, Failure> {
        self.read(name, "a string", |value| match value {
            Value::String(text) => Ok(text),
            other => Err(other),
        })
    }

    pub(crate) fn required_text(&mut self, name: &str) -> Result<String, Failure> {
        let value = self.required(name)?;
        match value {
            Value::String(text) => Ok(text),
            other => Err(wrong(&self.path(name), "a string", &other)),
        }
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, Failure> {
        self.read(name, "true or false", |value| value.as_bool().ok_or(value))
    }

    pub(crate) fn count(&mut self, name: &str) -> Result<Option<u64>, Failure> {
        self.read(name, "a whole number, 0 or more", |value| value.as_u64().ok_or(value))
    }

    pub(crate) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Failure> {
        self.read(name, "a list", |value| match value {
            Value::Array(list) => Ok(list),
            other => Err(other),
        })
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Fields>, Failure> {
        let path = self.path(name);
        self.value(name).map(|value| Fields::of(value, &path)).transpose()
    }

    /// A field that is taken only where it says what happens anyway.
    pub(crate) fn only(&mut self, name: &str, allowed: &[Value], why: &str) -> Result<(), Failure> {
        match self.value(name) {
            Some(value) if !allowed.contains(&value) => Err(unsupported(&self.path(name), why)),
            _ => Ok(()),
        }
    }

    /// Fields that are taken and change nothing.
    pub(crate) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.map.remove(*name);
        }
    }

    /// Refuses what is left.
    pub(crate) fn end(self) -> Result<(), Failure> {
        match self.map.keys().next() {
            Some(name) => {
                let path = self.path(&name.chars().take(80).collect::<String>());
                let message = format!("`{path}` is not known here: leave it out, or check how it is spelt");
                Err(Failure::bad("unknown_parameter", message).at(path))
            }
            None => Ok(()),
        }
    }

    fn read<T>(
        &mut self,
        name: &str,
        wanted: &str,
        read: impl FnOnce(Value) -> Result<T, Value>,
    ) -> Result<Option<T>, Failure> {
        let path = self.path(name);
        self.value(name).map(|value| read(value).map_err(|other| wrong(&path, wanted, &other))).transpose()
    }
}

/// A parameter that is known, and that this server cannot act on.
pub(crate) fn unsupported(path: &str, why: &str) -> Failure {
    Failure::bad("unsupported_parameter", format!("`{path}` cannot be used as it is given: {why}")).at(path)
}

/// A value that says nothing this server can act on.
pub(crate) fn invalid(path: &str, why: impl AsRef<str>) -> Failure {
    let named = if path.is_empty() { "the body" } else { path };
    Failure::bad("parameter_invalid", format!("`{named}` cannot be used: {}", why.as_ref())).at(path)
}

/// A value of the wrong type.
pub(crate) fn wrong(path: &str, wanted: &str, found: &Value) -> Failure {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    let named = if path.is_empty() { "the body".to_owned() } else { format!("`{path}`") };
    let failure = Failure::bad("parameter_type", format!("{named} must be {wanted}, and is {found}"));
    if path.is_empty() { failure } else { failure.at(path) }
}
