//! The tools of a request: those of this server, by name, and functions that the caller carries out.

use crate::Failure;
use crate::catalog::Catalog;
use crate::fields::{Fields, invalid, unsupported, wrong};
use errand_core::{Approval, Class, Executor, ToolDefinition, ToolSpec};
use serde_json::{Value, json};

/// What a tool of this server is called by: `errand:NAME`.
pub(crate) const OWN: &str = "errand:";
/// Most tools of a request.
const TOOLS_MAX: usize = 128;
/// Longest parameters of a function, in bytes.
const PARAMETERS_BYTES: usize = 256 << 10;

/// A tool that a request asks for.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// One of this server.
    Own { name: String },
    /// What another provider calls so.
    Like { name: String, index: usize },
    /// A function of the caller.
    Function(Box<ToolSpec>),
}

/// The tools, and what the response shows of them.
pub(crate) fn read(list: Vec<Value>) -> Result<(Vec<Wanted>, Vec<Value>), Failure> {
    if list.len() > TOOLS_MAX {
        return Err(invalid("tools", format!("there are {}, at most {TOOLS_MAX} are taken", list.len())));
    }
    let tools = list.into_iter().enumerate().map(|(index, value)| one(index, value));
    Ok(tools.collect::<Result<Vec<_>, _>>()?.into_iter().unzip())
}

fn one(index: usize, value: Value) -> Result<(Wanted, Value), Failure> {
    let path = format!("tools[{index}]");
    let mut fields = Fields::of(value, &path)?;
    let kind = fields.required_text("type")?;
    match kind.as_str() {
        "function" => function(fields),
        "code_interpreter" => {
            if let Some(container) = fields.value("container") {
                let mut container = Fields::of(container, &format!("{path}.container")).map_err(|_| {
                    unsupported(&format!("{path}.container"), "each run has a box of its own; send {\"type\": \"auto\"}")
                })?;
                container.only("type", &[json!("auto")], "each run has a box of its own; send auto")?;
                container.end()?;
            }
            fields.end()?;
            Ok((Wanted::Like { name: kind.clone(), index }, json!({"type": kind, "container": {"type": "auto"}})))
        }
        "web_search" | "web_search_preview" => {
            fields.only("search_context_size", &[json!("medium")], "only medium is taken")?;
            fields.end()?;
            Ok((Wanted::Like { name: "web_search".to_owned(), index }, json!({"type": kind})))
        }
        own => match own.strip_prefix(OWN) {
            Some(name) => {
                let name = name.to_owned();
                fields.end()?;
                Ok((Wanted::Own { name }, json!({"type": kind})))
            }
            None => Err(unsupported_tool(index, &kind)),
        },
    }
}

fn unsupported_tool(index: usize, kind: &str) -> Failure {
    let kind: String = kind.chars().take(80).collect();
    let message = format!(
        "there is no tool of type `{kind}` here: name one of this server as `{OWN}NAME` (`errand tools` lists them), or give a `function` that you carry out"
    );
    Failure::bad("unsupported_tool", message).at(format!("tools[{index}].type"))
}

fn function(mut fields: Fields) -> Result<(Wanted, Value), Failure> {
    let (name_path, parameters_path) = (fields.path("name"), fields.path("parameters"));
    let name = fields.required_text("name")?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
        return Err(invalid(&name_path, "a name has 1 to 64 letters, digits, `_` or `-`"));
    }
    let description = fields.text("description")?;
    let parameters = fields.value("parameters");
    if let Some(parameters) = parameters.as_ref().filter(|parameters| !parameters.is_object()) {
        return Err(wrong(&parameters_path, "a JSON Schema, that is an object", parameters));
    }
    let strict = fields.flag("strict")?;
    fields.only("defer_loading", &[json!(false)], "all functions are told to the model at once")?;
    fields.end()?;
    let shown = json!({"type": "function", "name": name, "description": description, "parameters": parameters,
                       "strict": strict});
    let parameters = parameters.unwrap_or_else(|| json!({"type": "object", "properties": {}})).to_string();
    if parameters.len() > PARAMETERS_BYTES {
        return Err(invalid(&parameters_path, format!("it is longer than {PARAMETERS_BYTES} bytes")));
    }
    let spec = ToolSpec {
        definition: ToolDefinition { name, description: description.unwrap_or_default(), parameters },
        class: Class::Effectful,
        executor: Executor::Caller,
        approval: Approval::Never,
        timeout_ms: 0,
        taint_out: Vec::new(),
        source: None,
        min_tier: None,
        egress: None,
    };
    Ok((Wanted::Function(Box::new(spec)), shown))
}

/// What a run is pinned to for them, in the order of the request.
pub(crate) async fn specs(wanted: Vec<Wanted>, catalog: &dyn Catalog) -> Result<Vec<ToolSpec>, Failure> {
    let mut specs: Vec<ToolSpec> = Vec::new();
    for (index, wanted) in wanted.into_iter().enumerate() {
        let at = |failure: Failure| failure.at(format!("tools[{index}]"));
        let named = match wanted {
            Wanted::Function(spec) => vec![*spec],
            Wanted::Own { name } => own(catalog, name).await.map_err(at)?,
            Wanted::Like { name, index } => {
                let like = catalog.tool_like(&name).ok_or_else(|| unsupported_tool(index, &name))?;
                own(catalog, like).await.map_err(at)?
            }
        };
        for spec in named {
            if specs.iter().any(|known| known.definition.name == spec.definition.name) {
                let name = &spec.definition.name;
                return Err(at(Failure::bad("tool_named_twice", format!("there are two tools called `{name}`"))));
            }
            specs.push(spec);
        }
    }
    Ok(specs)
}

/// One tool, or all of a server of tools that `NAME_*` names.
async fn own(catalog: &dyn Catalog, name: String) -> Result<Vec<ToolSpec>, Failure> {
    catalog.tools(&[name]).await
}
