//! Text for people: what may reach a terminal, and how sizes, times and amounts read.

pub(crate) use errand_api::text::{dollars, time};
use errand_core::{Timestamp, Usd};
use std::path::Path;

/// Text from a model, a tool or a file with everything taken out that a terminal would act on: escape sequences and
/// control characters are shown as pictures, line breaks and tabs stay, marks that reorder text are named.
pub(crate) fn neutral(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\n' | '\t' => shown.push(character),
            '\r' if rest.peek() == Some(&'\n') => {}
            '\u{0}'..='\u{1f}' => shown.push(picture(character as u32)),
            '\u{7f}' => shown.push('\u{2421}'),
            '\u{80}'..='\u{9f}' => shown.push('\u{fffd}'),
            // Marks that reorder or hide text: <https://www.unicode.org/reports/tr9/> section 2 (checked 2026-11-21).
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}' => {
                shown.push_str(&format!("<U+{:04X}>", character as u32));
            }
            other => shown.push(other),
        }
    }
    shown
}

fn picture(control: u32) -> char {
    char::from_u32(0x2400 + control).unwrap_or('\u{fffd}')
}

/// The text on one line, at most `width` characters.
pub(crate) fn one_line(text: &str, width: usize) -> String {
    let mut line = String::new();
    let mut count = 0;
    for word in text.split_whitespace() {
        if count > 0 {
            line.push(' ');
            count += 1;
        }
        for character in neutral(word).chars() {
            if count >= width.saturating_sub(1) {
                line.push('…');
                return line;
            }
            line.push(character);
            count += 1;
        }
    }
    line
}

/// `12.3 kB`; powers of 1000.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `840 ms`, `3.2 s`, `4 min 10 s`, `2 h 5 min`, `3 d 4 h`.
pub(crate) fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis} ms"),
        1..=59 => format!("{}.{} s", seconds, millis % 1000 / 100),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `2026-11-21 10:00:00 UTC`.
pub(crate) fn time_for_people(at: Timestamp) -> String {
    let full = time(at);
    match full.split_once('T') {
        Some((day, clock)) if clock.len() > 8 => format!("{day} {} UTC", &clock[..8]),
        _ => full,
    }
}

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// `$0.0123 (of which $0.01 unconfirmed)`.
pub(crate) fn money(spent: Usd, unconfirmed: Usd) -> String {
    match unconfirmed {
        Usd::ZERO => spent.to_string(),
        part => format!("{spent} (of which {part} unconfirmed: an answer was lost and its most is booked)"),
    }
}

/// `name` of one, `names` of another number.
pub(crate) fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A path as it may be shown.
pub(crate) fn path(path: &Path) -> String {
    neutral(&path.display().to_string())
}

/// Dollars as a person writes them (`0.5`, `2`, `1.25`), exact to a nanodollar.
pub(crate) fn parse_usd(text: &str) -> Option<Usd> {
    let text = text.trim().trim_start_matches('$');
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let nanos: u64 = format!("{fraction:0<9}").parse().ok()?;
    whole.checked_mul(1_000_000_000)?.checked_add(nanos).map(Usd::from_nanos)
}

/// `500ms`, `90s`, `30m`, `2h`, `1d`, in milliseconds; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Option<u64> {
    let text = text.trim();
    let at = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..at].parse().ok()?;
    let factor = match text[at..].trim() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_told_anything() {
        assert_eq!(neutral("a\x1b[31mb\x07\r\nc\rd\x7f\u{9b}2J"), "a␛[31mb␇\nc␍d␡\u{fffd}2J");
        assert_eq!(neutral("x\u{202e}y"), "x<U+202E>y");
        assert_eq!(neutral("ünï 漢\t😀"), "ünï 漢\t😀");
    }

    #[test]
    fn lines_are_cut_at_characters() {
        assert_eq!(one_line("a\n  b\tc", 80), "a b c");
        assert_eq!(one_line("äöüäöü", 4), "äöü…");
        assert_eq!(one_line("", 4), "");
    }

    #[test]
    fn amounts_read_well() {
        assert_eq!([bytes(999), bytes(1000), bytes(12_345_678)], ["999 B", "1.0 kB", "12.3 MB"]);
        assert_eq!([duration(12), duration(3_210), duration(250_000)], ["12 ms", "3.2 s", "4 min 10 s"]);
        assert_eq!([count(0), count(999), count(1_234_567)], ["0", "999", "1,234,567"]);
        assert_eq!(time(Timestamp::from_millis(1_795_255_200_123)), "2026-11-21T10:00:00.123Z");
        assert_eq!(time_for_people(Timestamp::from_millis(1_795_255_200_123)), "2026-11-21 10:00:00 UTC");
        assert_eq!(time(Timestamp::from_millis(u64::MAX)), format!("{}ms", u64::MAX));
    }

    #[test]
    fn dollars_and_times_are_exact_or_refused() {
        assert_eq!(parse_usd("1.25"), Some(Usd::from_nanos(1_250_000_000)));
        assert_eq!(parse_usd("$.000000001"), Some(Usd::from_nanos(1)));
        assert_eq!(parse_usd("0"), Some(Usd::ZERO));
        for wrong in ["", ".", "-1", "1e3", "1,5", "0.0000000001", "NaN", "99999999999999999999"] {
            assert_eq!(parse_usd(wrong), None, "{wrong}");
        }
        assert_eq!(
            [parse_duration("90s"), parse_duration("2h"), parse_duration("5")],
            [Some(90_000), Some(7_200_000), Some(5_000)]
        );
        for wrong in ["", "h", "1w", "-1s", "1.5h", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }
}
