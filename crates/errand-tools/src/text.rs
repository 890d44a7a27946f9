//! Text that a model is shown: bounded, and saying what is missing.

/// `text`, with its middle taken out if it has more than `bytes_max` bytes. `rest` says where the whole is.
pub(crate) fn bounded(text: &str, bytes_max: usize, rest: &str) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let marker = |cut: usize| format!("\n[… {cut} bytes left out{rest} …]\n");
    let room = bytes_max.saturating_sub(marker(text.len()).len());
    let (head, tail) = (head(text, room / 2), tail(text, room - room / 2));
    let shown = format!("{head}{}{tail}", marker(text.len() - head.len() - tail.len()));
    if shown.len() <= bytes_max { shown } else { self::head(&shown, bytes_max).to_owned() }
}

/// The beginning of `text`, at most `bytes_max` bytes.
pub(crate) fn head(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// The end of `text`, at most `bytes_max` bytes.
pub(crate) fn tail(text: &str, bytes_max: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes_max))..]
}

/// A size as people read it.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} KB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_middle_is_left_out_and_counted() {
        let text = format!("{}{}{}", "a".repeat(500), "b".repeat(500), "c".repeat(500));
        let shown = bounded(&text, 200, ", all of it is in out.txt");
        assert!(shown.starts_with("aaa") && shown.ends_with("ccc"), "{shown}");
        assert!(shown.contains("bytes left out, all of it is in out.txt"), "{shown}");
        assert!(shown.len() <= 200);
    }

    proptest! {
        #[test]
        fn the_bound_holds_for_any_text(text in ".{0,120}", bytes_max in 0usize..200) {
            let shown = bounded(&text, bytes_max, "");
            prop_assert!(shown.len() <= bytes_max);
            if text.len() <= bytes_max {
                prop_assert_eq!(shown, text);
            }
        }
    }
}
