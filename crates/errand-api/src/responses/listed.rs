//! What a response was asked with, as a list of items.

use super::{id, json, known};
use crate::query::Query;
use crate::{Api, Failure};
use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use errand_core::{Message, RunId};
use errand_keys::Principal;
use serde_json::{Value, json as object};

/// Items of a page, if nobody says how many; and at most.
const PAGE: (u64, u64) = (20, 100);

pub(super) async fn input_items(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::read(query)?;
    let limit = query.count("limit")?.unwrap_or(PAGE.0);
    if limit == 0 || limit > PAGE.1 {
        return Err(Failure::bad("parameter_invalid", format!("`limit` is a number from 1 to {}", PAGE.1)).at("limit"));
    }
    let ascending = match query.text("order").as_deref() {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(Failure::bad("parameter_invalid", "`order` is `asc` or `desc`").at("order")),
    };
    let after = query.text("after");
    query.end()?;
    let (run, log) = known(&api, &who, &id).await?;
    let mut items = items(run, &log.started().opening_messages());
    if !ascending {
        items.reverse();
    }
    if let Some(after) = after {
        let at = items.iter().position(|item| item["id"] == *after);
        let at = at.ok_or_else(|| Failure::bad("parameter_invalid", "`after` is the id of no item here").at("after"))?;
        items.drain(..=at);
    }
    let has_more = items.len() as u64 > limit;
    items.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let end = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
    Ok(json(object!({
        "object": "list", "first_id": end(items.first()), "last_id": end(items.last()), "has_more": has_more,
        "data": items,
    })))
}

fn items(run: RunId, messages: &[Message]) -> Vec<Value> {
    let mut items = Vec::new();
    for message in messages {
        let said = |role: &str, kind: &str, text: &str| object!({"type": "message", "status": "completed", "role": role, "content": [{"type": kind, "text": text}]});
        match message {
            Message::System { text } => items.push(said("developer", "input_text", text)),
            Message::User { text, images } => {
                let mut item = said("user", "input_text", text);
                let shown = images.iter().map(|image| {
                    object!({"type": "input_image", "detail": "auto", "file_id": null,
                    "image_url": null, "sha256": image.sha256.to_string()})
                });
                if let Some(content) = item["content"].as_array_mut() {
                    content.extend(shown);
                }
                items.push(item);
            }
            Message::Assistant { text, calls, .. } => {
                if !text.is_empty() {
                    items.push(said("assistant", "output_text", text));
                }
                items.extend(calls.iter().map(|call| {
                    object!({"type": "function_call", "status": "completed",
                    "call_id": call.id, "name": call.name, "arguments": call.arguments})
                }));
            }
            Message::Tool { call_id, text, .. } => items.push(object!({"type": "function_call_output",
                "status": "completed", "call_id": call_id, "output": text})),
        }
    }
    for (index, item) in (0u32..).zip(&mut items) {
        item["id"] = id::of_reply("in", run, 1, index).into();
    }
    items
}
