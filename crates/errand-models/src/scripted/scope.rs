//! What templates and expressions of a script can see, and their evaluation.

use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::sync::LazyLock;

/// Most instructions one template or expression may take; a loop over a thousand values takes a few tens of thousands.
const FUEL: u64 = 1_000_000;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment
});

/// The values in sight: `task`, `notice`, `tools`, `calls`, and what was bound.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    values: Map<String, Value>,
}

impl Scope {
    /// The values at the start of a pass through the script.
    pub(super) fn new(task: &str, tools: &[&str]) -> Self {
        let mut values = Map::new();
        values.insert("task".to_owned(), task.into());
        values.insert("notice".to_owned(), "".into());
        values.insert("tools".to_owned(), tools.into());
        values.insert("calls".to_owned(), json!({}));
        Self { values }
    }

    pub(super) fn set(&mut self, name: &str, value: Value) {
        self.values.insert(name.to_owned(), value);
    }

    /// All values, for a summary.
    pub(super) fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// Takes the values of a summary.
    pub(super) fn know(&mut self, values: &Value) {
        self.values.extend(values.as_object().cloned().unwrap_or_default());
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.values.remove(name);
    }

    /// Makes an observation known as `calls.NAME`.
    pub(super) fn observe(&mut self, name: &str, text: &str, is_error: bool) {
        if let Some(calls) = self.values.get_mut("calls").and_then(Value::as_object_mut) {
            let json = json_in(text).unwrap_or_default();
            calls.insert(name.to_owned(), json!({"text": text, "is_error": is_error, "json": json}));
        }
    }

    /// The text a template makes.
    pub(super) fn render(&self, template: &str) -> Result<String, String> {
        // Most strings of a script, program code above all, are no templates.
        if !template.contains('{') {
            return Ok(template.to_owned());
        }
        let compiled = ENVIRONMENT.template_from_str(template).map_err(|error| reason(&error))?;
        compiled.render(self.context()).map_err(|error| self.explain(&error, &compiled.undeclared_variables(true)))
    }

    /// The value of an expression.
    pub(super) fn value(&self, expression: &str) -> Result<Value, String> {
        let value = self.evaluate(expression)?;
        serde_json::to_value(&value).map_err(|error| format!("`{expression}` is no value: {error}"))
    }

    /// Whether an expression holds, in the sense of Jinja: zero, none and what is empty do not. No expression always
    /// holds.
    pub(super) fn holds(&self, expression: Option<&str>) -> Result<bool, String> {
        expression.map_or(Ok(true), |expression| Ok(self.evaluate(expression)?.is_true()))
    }

    fn evaluate(&self, expression: &str) -> Result<minijinja::Value, String> {
        let compiled = ENVIRONMENT.compile_expression(expression).map_err(|error| reason(&error))?;
        let variables = compiled.undeclared_variables(true);
        let value = compiled.eval(self.context()).map_err(|error| self.explain(&error, &variables))?;
        if value.is_undefined() { Err(self.undefined(&variables)) } else { Ok(value) }
    }

    /// JSON with its strings rendered and its `{"$expr": "…"}` evaluated.
    fn fill(&self, value: &Value) -> Result<Value, String> {
        match value {
            Value::String(template) => self.render(template).map(Value::String),
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect(),
            Value::Object(fields) => match (fields.len(), fields.get("$expr")) {
                (1, Some(Value::String(expression))) => self.value(expression),
                _ => self.fill_fields(fields),
            },
            other => Ok(other.clone()),
        }
    }

    /// The fields of a JSON object, filled.
    pub(super) fn fill_fields(&self, fields: &Map<String, Value>) -> Result<Value, String> {
        fields.iter().map(|(name, value)| Ok((name.clone(), self.fill(value)?))).collect()
    }

    fn context(&self) -> minijinja::Value {
        minijinja::value::Serde(&self.values).into()
    }

    fn explain(&self, error: &minijinja::Error, variables: &HashSet<String>) -> String {
        match error.kind() {
            ErrorKind::UndefinedError => self.undefined(variables),
            ErrorKind::OutOfFuel => "it takes too many instructions; does a loop not end?".to_owned(),
            _ => reason(error),
        }
    }

    /// Names the variables that are not there.
    fn undefined(&self, variables: &HashSet<String>) -> String {
        let mut missing: Vec<&str> = variables.iter().map(String::as_str).filter(|name| !self.knows(name)).collect();
        missing.sort_unstable();
        format!("`{}` is undefined; bind it, or give the binding a default", missing.join("`, `"))
    }

    fn knows(&self, path: &str) -> bool {
        let mut parts = path.split('.');
        let first = parts.next().and_then(|name| self.values.get(name));
        parts.fold(first, |value, name| value.and_then(|value| value.get(name))).is_some()
    }
}

fn reason(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// The JSON in an observation: the whole of it, or else its last line that is an object or a list.
pub(super) fn json_in(text: &str) -> Option<Value> {
    let structured = |line: &str| {
        let line = line.trim();
        let begins = line.starts_with(['{', '[']);
        begins.then(|| serde_json::from_str::<Value>(line).ok()).flatten()
    };
    serde_json::from_str(text).ok().or_else(|| text.lines().rev().find_map(structured))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_undefined_is_named() {
        let mut scope = Scope::new("t", &["python"]);
        scope.set("rows", 3.into());
        let error = scope.render("{{ rows }} {{ columns }} {{ calls.profile.text }}").unwrap_err();
        assert_eq!(error, "`calls.profile.text`, `columns` is undefined; bind it, or give the binding a default");
        assert_eq!(scope.value("columns").unwrap_err(), "`columns` is undefined; bind it, or give the binding a default");
        assert!(scope.holds(Some("columns > 2")).is_err());
        assert_eq!(scope.holds(Some("columns is defined and columns > 2")), Ok(false));
    }

    #[test]
    fn loops_end() {
        let scope = Scope::new("t", &[]);
        let error = scope.render("{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}");
        assert!(error.unwrap_err().contains("too many instructions"));
    }

    #[test]
    fn arguments_keep_their_types() {
        let mut scope = Scope::new("say \"hi\"", &[]);
        scope.set("rows", 3.into());
        let filled =
            scope.fill(&json!({"n": {"$expr": "rows + 1"}, "code": "x = {{ task|tojson }}", "deep": [{"a": true}]}));
        assert_eq!(filled.unwrap(), json!({"n": 4, "code": "x = \"say \\\"hi\\\"\"", "deep": [{"a": true}]}));
    }

    #[test]
    fn finds_json_in_observations() {
        assert_eq!(json_in("{\"a\": 1}"), Some(json!({"a": 1})));
        assert_eq!(json_in("warming up\n[1, 2]\ndone {x}"), Some(json!([1, 2])));
        assert_eq!(json_in("nothing"), None);
    }
}
