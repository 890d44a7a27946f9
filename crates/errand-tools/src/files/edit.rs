//! Replacing one place in a file.

use super::read::size_of_text;
use super::{EDIT_BYTES_MAX, Error};
use errand_sandbox::Session;

/// Puts `new` where `old` stands, if that is exactly one place.
pub(super) fn edit(session: &Session, path: &str, old: &str, new: &str) -> Result<String, Error> {
    if old == new {
        return Err(Error::NothingToChange);
    }
    let bytes = size_of_text(session, path)?;
    if bytes > EDIT_BYTES_MAX {
        return Err(Error::TooLarge { path: path.to_owned(), bytes });
    }
    let text = String::from_utf8(session.read_file(path, 0, EDIT_BYTES_MAX)?.bytes)
        .map_err(|_| Error::Binary { path: path.to_owned(), bytes })?;
    let edited = replaced(&text, path, old, new)?;
    session.put_file(path, edited.as_bytes())?;
    let line = text[..text.find(old).unwrap_or(0)].lines().count().max(1);
    Ok(format!("edited {path} near line {line}: it now has {} bytes, {} lines", edited.len(), edited.lines().count()))
}

fn replaced(text: &str, path: &str, old: &str, new: &str) -> Result<String, Error> {
    match count(text, old) {
        0 => Err(Error::OldNotFound { path: path.to_owned() }),
        1 => Ok(text.replacen(old, new, 1)),
        count => Err(Error::OldNotUnique { path: path.to_owned(), count }),
    }
}

/// How often `old` stands in `text`; places that overlap count, because either could be meant.
fn count(text: &str, old: &str) -> usize {
    let first = old.chars().next().map_or(1, char::len_utf8);
    let mut from = 0;
    let mut count = 0;
    while let Some(at) = text[from..].find(old) {
        count += 1;
        from += at + first;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_place_is_replaced() {
        assert_eq!(replaced("a b c", "f", "b", "x").unwrap(), "a x c");
        assert_eq!(replaced("a b c", "f", "d", "x").unwrap_err().code(), "old_not_found");
        assert_eq!(replaced("a b b", "f", "b", "x").unwrap_err().code(), "old_not_unique");
        assert!(replaced("ßßß", "f", "ßß", "x").unwrap_err().to_string().contains("2 times"));
    }
}
