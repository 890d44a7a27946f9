//! `errand explain`: the pages of `docs/errors/`, which are part of this program.

use super::Context;
use crate::args::Explain;
use crate::error::{Error, Exit};
use crate::text;
use crate::view::{Audience, print, print_json};
use include_dir::{Dir, include_dir};
use serde_json::json;

static PAGES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../docs/errors");

/// One code's page, or all codes with a line each.
pub(super) fn explain(context: &Context, args: &Explain) -> Result<Exit, Error> {
    let machines = context.audience() == Audience::Machines;
    let Some(code) = &args.code else {
        for (code, page) in pages() {
            let what = summary(page);
            if machines {
                print_json(&json!({"type": "error_code", "code": code, "what": what}))
            } else {
                print(&format!("{code:<28} {what}"))
            }
        }
        return Ok(Exit::Done);
    };
    let (code, page) = pages().find(|(known, _)| known == code).ok_or_else(|| unknown(code))?;
    match machines {
        true => print_json(&json!({"type": "error_code", "code": code, "what": summary(page), "page": page})),
        false => print(page.trim_end()),
    }
    Ok(Exit::Done)
}

/// Codes with their pages, in order.
fn pages() -> impl Iterator<Item = (&'static str, &'static str)> {
    let pages = PAGES.files().filter_map(|file| Some((file.path().file_stem()?.to_str()?, file.contents_utf8()?)));
    pages.filter(|(code, _)| *code != "README")
}

/// A page's first paragraph, on one line.
fn summary(page: &str) -> String {
    let first = page.lines().skip(1).skip_while(|line| line.trim().is_empty()).take_while(|line| !line.trim().is_empty());
    first.map(str::trim).collect::<Vec<_>>().join(" ")
}

fn unknown(code: &str) -> Error {
    let near = |known: &&'static str| known.contains(code) || code.contains(*known);
    let near: Vec<&str> = pages().map(|(known, _)| known).filter(near).take(5).collect();
    let or = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) };
    Error::new("error_code_unknown", format!("no error has the code `{}`{or}", text::one_line(code, 60)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_begins_with_its_code_and_says_what_it_is() {
        assert!(pages().count() > 150);
        for (code, page) in pages() {
            assert!(page.starts_with(&format!("# {code}\n")), "{code}");
            assert!(!summary(page).is_empty(), "{code}");
        }
    }

    #[test]
    fn a_code_that_is_none_is_told_of_with_those_near_it() {
        assert_eq!(unknown("budget").message, "no error has the code `budget`; did you mean budget_invalid?");
        assert_eq!(unknown("zzz").code, "error_code_unknown");
    }
}
