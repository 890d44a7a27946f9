//! A server's tools as tools of Errand.

use super::form::{Hints, McpForm};
use crate::schema;
use crate::text;
use errand_core::{Executor, Hash, ToolDefinition, ToolSpec};
use serde_json::{Map, Value};

/// Most tools of a server that are wanted.
pub(super) const TOOLS_MAX: usize = 500;
/// Longest description that a model is told, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 4_000;
/// Longest name, as model providers take them.
const NAME_BYTES_MAX: usize = 64;

/// A tool of a server.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Definition {
    /// As the server calls it.
    pub(super) name: String,
    pub(super) spec: ToolSpec,
}

/// The tools of a server that are wanted and can be used, and warnings about the others.
pub(super) struct Listing {
    pub(super) tools: Vec<Definition>,
    pub(super) warnings: Vec<String>,
}

/// Reads what a server lists.
///
/// # Errors
/// Too many, or two that would have the same name.
pub(super) fn read(server: &str, form: &McpForm, digest: &Hash, listed: &[Value]) -> Result<Listing, String> {
    let named = |tool: &Value| tool["name"].as_str().map(str::to_owned);
    let names: Vec<String> = listed.iter().filter_map(named).collect();
    let wanted: Vec<(&Value, &str)> = listed
        .iter()
        .filter_map(|tool| tool["name"].as_str().map(|name| (tool, name)))
        .filter(|(_, name)| form.wants(name))
        .collect();
    if wanted.len() > TOOLS_MAX {
        let count = wanted.len();
        return Err(format!(
            "it has {count} tools, at most {TOOLS_MAX} are taken: name those that are needed with `include`"
        ));
    }
    let mut warnings = Vec::new();
    let unnamed = listed.len() - names.len();
    if unnamed > 0 {
        warnings.push(format!("{unnamed} tools without a name are left out"));
    }
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let shown = |name: &str| text::head(name, 80).to_owned();
    warnings.extend(form.unknown(&known).iter().map(|name| format!("`tools.{}` names no tool of it", shown(name))));
    let mut tools: Vec<Definition> = Vec::new();
    for (tool, name) in wanted {
        match one(server, form, digest, name, tool) {
            Ok(definition) => {
                let same = tools.iter().find(|known| known.spec.definition.name == definition.spec.definition.name);
                if let Some(same) = same {
                    let (one, other) = (shown(&same.name), shown(name));
                    return Err(format!("its tools {one:?} and {other:?} would have the same name: exclude one of them"));
                }
                tools.push(definition);
            }
            Err(problem) => warnings.push(format!("its tool {:?} is left out: {problem}", shown(name))),
        }
    }
    Ok(Listing { tools, warnings })
}

fn one(server: &str, form: &McpForm, digest: &Hash, name: &str, tool: &Value) -> Result<Definition, String> {
    let full = full_name(server, name)?;
    let parameters = &tool["inputSchema"];
    schema::compile(parameters)?;
    let description = match tool["description"].as_str().map(str::trim).filter(|text| !text.is_empty()) {
        Some(description) => text::bounded(description, DESCRIPTION_BYTES_MAX, ""),
        None => format!("The tool {name} of the MCP server {server}, which says no more of it."),
    };
    let hint = |key: &str| tool["annotations"][key].as_bool().unwrap_or(false);
    let class = form.class(name, Hints { read_only: hint("readOnlyHint"), idempotent: hint("idempotentHint") });
    let spec = ToolSpec {
        definition: ToolDefinition { name: full, description, parameters: parameters.to_string() },
        class,
        executor: Executor::Worker,
        approval: form.approval(name),
        timeout_ms: form.timeout_ms(name),
        taint_out: form.taint_out(),
        source: Some(digest_of(digest, tool)),
        min_tier: None,
        egress: None,
    };
    Ok(Definition { name: name.to_owned(), spec })
}

/// The digest of the manifest and of all that says what the tool does; not of icons and the like.
fn digest_of(manifest: &Hash, tool: &Value) -> Hash {
    let keys = ["name", "description", "inputSchema", "outputSchema", "annotations"];
    let told: Map<String, Value> =
        keys.iter().filter_map(|key| Some(((*key).to_owned(), tool.get(*key)?.clone()))).collect();
    Hash::of(format!("{manifest}\n{}", Value::Object(told)).as_bytes())
}

/// `SERVER_TOOL` of the characters that every provider takes.
fn full_name(server: &str, tool: &str) -> Result<String, String> {
    let word = |char: char| if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '_' };
    let full = format!("{server}_{}", tool.chars().map(word).collect::<String>());
    match full.len() {
        0..=NAME_BYTES_MAX if !tool.is_empty() => Ok(full),
        length => Err(format!(
            "its name would have {length} characters, at most {NAME_BYTES_MAX} are taken: give the server a shorter name"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use errand_core::{Approval, Class};
    use serde_json::json;

    fn form(more: Value) -> McpForm {
        let mut form = json!({ "server": { "command": "x" } });
        form.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(form).unwrap()
    }

    fn listing(more: Value, tools: &[Value]) -> Result<Listing, String> {
        read("s", &form(more), &Hash::of(b"m"), tools)
    }

    fn tool(name: &str) -> Value {
        json!({ "name": name, "description": "d", "inputSchema": { "type": "object" }, "annotations": { "readOnlyHint": true } })
    }

    #[test]
    fn hints_are_believed_only_where_the_manifest_says_so() {
        let spec = |more: Value| listing(more, &[tool("a")]).unwrap().tools.remove(0).spec;
        let untrusted = spec(json!({}));
        assert_eq!((untrusted.class, untrusted.approval), (Class::Effectful, Approval::Effectful));
        assert_eq!(untrusted.taint_out, ["mcp"]);
        assert_eq!(spec(json!({ "trust_annotations": true })).class, Class::Pure);
        let own = spec(json!({ "tools": { "a": { "class": "idempotent", "timeout_s": 0.5 } } }));
        assert_eq!((own.class, own.approval, own.timeout_ms), (Class::Idempotent, Approval::Effectful, 500));
    }

    #[test]
    fn what_cannot_be_used_is_left_out_and_told_of() {
        let broken = json!({ "name": "b", "inputSchema": { "type": "object", "properties": { "x": { "type": "text" } } } });
        let listing = listing(json!({}), &[tool("A-b.c"), broken, tool(&"x".repeat(70)), json!({}), tool("")]).unwrap();
        assert_eq!(listing.tools.iter().map(|tool| &*tool.spec.definition.name).collect::<Vec<_>>(), ["s_a_b_c"]);
        assert_eq!(listing.warnings.len(), 4, "{:?}", listing.warnings);
    }

    #[test]
    fn too_many_and_colliding_tools_are_refused_unless_excluded() {
        let tools = [tool("a-b"), tool("a_b")];
        assert!(listing(json!({}), &tools).err().unwrap().contains("same name"));
        assert_eq!(listing(json!({ "exclude": ["a-b"] }), &tools).unwrap().tools.len(), 1);
        let many: Vec<Value> = (0..10_000).map(|n| tool(&format!("t{n}"))).collect();
        assert!(listing(json!({}), &many).err().unwrap().contains("10000"));
        assert_eq!(listing(json!({ "include": ["t1?", "t77*"] }), &many).unwrap().tools.len(), 111);
    }

    #[test]
    fn the_digest_changes_with_the_tool_and_the_manifest() {
        let digest = |manifest: &[u8], tool: &Value| digest_of(&Hash::of(manifest), tool);
        let mut other = tool("a");
        other["description"] = "e".into();
        assert_ne!(digest(b"m", &tool("a")), digest(b"m", &other));
        assert_ne!(digest(b"m", &tool("a")), digest(b"n", &tool("a")));
        other = tool("a");
        other["icons"] = json!([]);
        assert_eq!(digest(b"m", &tool("a")), digest(b"m", &other));
    }
}
