//! Dates as numbers, and where to put the ticks of an axis of dates.

use super::axis::Tick;
use jiff::civil::{Date, DateTime, date};
use jiff::{Span, ToSpan, Unit};

const EPOCH: Date = date(1970, 1, 1);

/// Days since 1970-01-01 of `2026-01-31`, `2026-01` or `2026-01-31T12:00:00` (also with a space for the `T`); `None` if
/// `text` is none of these.
pub(super) fn days(text: &str) -> Option<f64> {
    let text = text.trim();
    if text.len() < 7 || !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let month = if text.len() == 7 { format!("{text}-01") } else { text.to_owned() };
    if month.len() == 10 {
        let day: Date = month.parse().ok()?;
        return Some(f64::from(EPOCH.until(day).ok()?.get_days()));
    }
    let local = text.strip_suffix('Z').unwrap_or(text);
    let time: DateTime = local.parse().ok()?;
    EPOCH
        .to_datetime(jiff::civil::Time::midnight())
        .until((Unit::Second, time))
        .ok()
        .map(|span| span.get_seconds() as f64 / 86_400.0)
}

/// Ticks for an axis from `low` to `high` (days), about `count` of them, at round dates.
pub(super) fn ticks(low: f64, high: f64, count: usize) -> Vec<Tick> {
    let span = (high - low).max(1e-6);
    let wanted = span / count.max(1) as f64;
    if wanted < 0.75 {
        return clock_ticks(low, high, wanted);
    }
    if wanted <= 20.0 {
        let step = [1.0, 2.0, 7.0, 14.0].into_iter().find(|step| *step >= wanted).unwrap_or(14.0);
        // Weeks begin on a Monday; 1970-01-05 was one.
        let offset = if step >= 7.0 { 4.0 } else { 0.0 };
        let first = ((low - offset) / step).ceil() * step + offset;
        return walk(first, high, step).filter_map(|day| tick(day, "%-d %b", "%-d %b %Y", span > 300.0)).collect();
    }
    let months =
        [1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200].into_iter().find(|months| f64::from(*months) * 30.5 >= wanted);
    month_ticks(low, high, months.unwrap_or(6000))
}

fn clock_ticks(low: f64, high: f64, wanted: f64) -> Vec<Tick> {
    let hours = [1.0 / 60.0, 5.0 / 60.0, 0.25, 0.5, 1.0, 2.0, 3.0, 6.0, 12.0];
    let step = hours.into_iter().map(|hours| hours / 24.0).find(|step| *step >= wanted).unwrap_or(0.5);
    let first = (low / step - 1e-6).ceil();
    let last = (high / step + 1e-6).floor();
    let label = |at: f64| {
        let minutes = (at.rem_euclid(1.0) * 1440.0).round() as i64;
        if minutes % 1440 == 0 {
            Some(tick(at.round(), "%-d %b", "%-d %b", false)?.label)
        } else {
            Some(format!("{:02}:{:02}", minutes / 60, minutes % 60))
        }
    };
    let count = (last - first).clamp(0.0, 200.0) as usize;
    (0..=count).map(|n| (first + n as f64) * step).filter_map(|at| Some(Tick { at, label: label(at)? })).collect()
}

fn month_ticks(low: f64, high: f64, months: i32) -> Vec<Tick> {
    let Some(start) = day_of(low) else { return Vec::new() };
    let count = i32::from(start.year()) * 12 + i32::from(start.month()) - 1;
    let first = count.div_euclid(months) * months;
    let format = if months >= 12 { "%Y" } else { "%b %Y" };
    let at = |n: i32| {
        let index = first + n * months;
        let month = Date::new(i16::try_from(index.div_euclid(12)).ok()?, 1, 1)
            .ok()?
            .checked_add(index.rem_euclid(12).months())
            .ok()?;
        Some(f64::from(EPOCH.until(month).ok()?.get_days()))
    };
    (0..200)
        .map_while(at)
        .take_while(|day| *day <= high + 1e-9)
        .filter(|day| *day >= low - 1e-9)
        .filter_map(|day| tick(day, format, format, false))
        .collect()
}

fn walk(first: f64, high: f64, step: f64) -> impl Iterator<Item = f64> {
    (0..200).map(move |n| first + f64::from(n) * step).take_while(move |day| *day <= high + 1e-9)
}

fn tick(day: f64, short: &str, long: &str, years: bool) -> Option<Tick> {
    let date = day_of(day)?;
    Some(Tick { at: day, label: date.strftime(if years { long } else { short }).to_string() })
}

fn day_of(day: f64) -> Option<Date> {
    EPOCH.checked_add(Span::new().try_days(day.floor() as i64).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(low: &str, high: &str) -> Vec<String> {
        ticks(days(low).unwrap(), days(high).unwrap(), 6).into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn dates_are_read() {
        assert_eq!(days("1970-01-02"), Some(1.0));
        assert_eq!(days("1970-02"), Some(31.0));
        assert_eq!(days("1970-01-01T12:00:00"), Some(0.5));
        assert_eq!(days("1970-01-01 06:00"), Some(0.25));
        assert_eq!(days("1969-12-31"), Some(-1.0));
        for text in ["", "2026", "2026-13", "2026-02-30", "yesterday", "12.05.2026", "1234567"] {
            assert_eq!(days(text), None, "{text}");
        }
    }

    #[test]
    fn ticks_lie_at_round_dates() {
        assert_eq!(labels("2026-01-01", "2026-01-06"), ["1 Jan", "2 Jan", "3 Jan", "4 Jan", "5 Jan", "6 Jan"]);
        assert_eq!(labels("2026-01-01", "2026-02-10"), ["5 Jan", "12 Jan", "19 Jan", "26 Jan", "2 Feb", "9 Feb"]);
        assert_eq!(labels("2025-12-15", "2026-07-01"), ["Jan 2026", "Mar 2026", "May 2026", "Jul 2026"]);
        assert_eq!(labels("2001-06-01", "2010-06-01"), ["2002", "2004", "2006", "2008", "2010"]);
        assert_eq!(
            labels("2026-01-01 05:00", "2026-01-01 11:00"),
            ["05:00", "06:00", "07:00", "08:00", "09:00", "10:00", "11:00"]
        );
    }

    proptest! {
        #[test]
        fn no_dates_make_it_panic_or_draw_without_end(a in -800_000.0..3_000_000f64, span in 0.0..1_000_000f64, count in 2usize..12) {
            prop_assert!(ticks(a, a + span, count).len() <= 60);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+0-9TZ: .a-z]{0,30}") {
            let _ = days(&text);
        }
    }
}
