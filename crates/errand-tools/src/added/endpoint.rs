//! Where a request goes: an address whose host the manifest fixes, with arguments in its path and query.

use super::problem::Problems;
use super::template::{Arguments, Template, percent, text};
use super::used::Used;
use crate::arguments::Refused;
use serde_json::Value;

/// Longest address, in bytes.
const BYTES_MAX: usize = 8_000;

/// An address with placeholders behind its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Scheme and host: as they stand.
    origin: String,
    /// The parts of the path, without the slash before each.
    path: Vec<Template>,
    /// What stands after `?`.
    query: Option<Template>,
}

impl Endpoint {
    /// Reads the URL of a manifest. What is wrong is added to the problems.
    pub(crate) fn read(url: &str, parameters: &Value, used: &mut Used<'_>, problems: &mut Problems) -> Option<Self> {
        const AT: &str = "request.url";
        let (scheme, rest) = url.split_once("://")?;
        let (host, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if host.contains(['{', '}']) {
            problems.add(AT, "a placeholder stands in its host: the model does not choose who is spoken to");
        } else if !url::Url::parse(&format!("{scheme}://{host}/")).is_ok_and(|url| url.username().is_empty()) {
            problems.add(AT, format!("{scheme}://{host} is no address of a server"));
        }
        if rest.contains('#') {
            problems.add(AT, "what stands after # is not sent: leave it out");
        }
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let path: Vec<Template> = path.split('/').skip(1).filter_map(|part| used.template(part, AT, problems)).collect();
        let required: Vec<&str> =
            parameters["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for name in path.iter().flat_map(Template::parameters).filter(|name| !required.contains(name)) {
            problems.add(AT, format!("{{{name}}} stands in the path, so it must be in parameters.required"));
        }
        let query = query.and_then(|query| used.template(query, AT, problems));
        Some(Self { origin: format!("{scheme}://{host}"), path, query })
    }

    /// The address, with `query` after what it has of its own. Each argument is encoded as what it is: a part of a path
    /// cannot become two, nor lead upwards.
    pub(crate) fn fill(&self, arguments: &Arguments, query: &[(String, String)]) -> Result<String, Refused> {
        let mut url = self.origin.clone();
        for part in &self.path {
            let plain = part.plain(arguments);
            if let Some(name) = part.parameters().find(|_| matches!(plain.as_str(), "" | "." | "..")) {
                return Err(Refused::invalid(format!("`{name}` becomes a part of an address and cannot be {plain:?}")));
            }
            url.push('/');
            url.push_str(&part.fill(arguments, percent));
        }
        if self.path.is_empty() {
            url.push('/');
        }
        let own = self.query.as_ref().map(|query| query.fill(arguments, percent));
        let more = query.iter().map(|(name, value)| format!("{}={}", percent(name), percent(value)));
        let query: Vec<String> = own.into_iter().chain(more).collect();
        if !query.is_empty() {
            url.push('?');
            url.push_str(&query.join("&"));
        }
        if url.len() > BYTES_MAX {
            return Err(Refused::invalid(format!("the address would have over {BYTES_MAX} bytes: send less")));
        }
        Ok(url)
    }
}

/// Names and values, as lists repeat them and what was not given is left out.
pub(crate) fn pairs(table: &[(String, Template)], arguments: &Arguments) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (name, template) in table {
        match template.whole().and_then(|parameter| arguments.get(parameter)) {
            Some(Value::Array(list)) => pairs.extend(list.iter().map(|value| (name.clone(), text(value)))),
            _ if template.is_given(arguments) => pairs.push((name.clone(), template.plain(arguments))),
            _ => {}
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn endpoint(url: &str) -> Result<Endpoint, usize> {
        let parameters = json!({ "properties": { "a": {}, "b": {}, "o": {} }, "required": ["a", "b"] });
        let (mut used, mut problems) = (Used::new(&parameters), Problems::default());
        let endpoint = Endpoint::read(url, &parameters, &mut used, &mut problems);
        match problems.is_empty() {
            true => Ok(endpoint.unwrap()),
            false => Err(problems.into_list().len()),
        }
    }

    fn filled(url: &str, arguments: Value) -> Result<String, Refused> {
        endpoint(url).unwrap().fill(arguments.as_object().unwrap(), &[("k &".to_owned(), "v=".to_owned())])
    }

    #[test]
    fn arguments_stay_in_their_place() {
        let evil = json!({ "a": "../x?y#z/%2e", "b": "https://elsewhere" });
        assert_eq!(
            filled("http://h:1/p/{a}/{b}.json?q={a}", evil).unwrap(),
            "http://h:1/p/..%2Fx%3Fy%23z%2F%252e/https%3A%2F%2Felsewhere.json?q=..%2Fx%3Fy%23z%2F%252e&k%20%26=v%3D"
        );
        assert_eq!(filled("http://h", json!({})).unwrap(), "http://h/?k%20%26=v%3D");
        for part in ["", ".", ".."] {
            assert!(filled("http://h/{a}/x", json!({ "a": part })).is_err(), "{part}");
        }
        assert!(filled("http://h/.{a}", json!({ "a": "." })).is_err());
        assert!(filled("http://h/{a}", json!({ "a": "x".repeat(BYTES_MAX) })).is_err());
    }

    #[test]
    fn the_host_is_not_for_the_model() {
        for url in [
            "http://{a}/",
            "http://h.{a}:1",
            "http://{a}@h/",
            "http://u@h/",
            "http:///x",
            "http://h/{o}",
            "http://h/#x",
            "http://h/{n}",
        ] {
            assert!(endpoint(url).is_err(), "{url}");
        }
    }
}
