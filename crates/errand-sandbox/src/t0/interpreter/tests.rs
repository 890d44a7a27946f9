use super::*;

#[test]
fn days_are_those_of_the_calendar() {
    let cases = [
        (0, (1970, 1, 1)),
        (86_399, (1970, 1, 1)),
        (951_782_400, (2000, 2, 29)),
        (951_868_800, (2000, 3, 1)),
        (1_709_164_800, (2024, 2, 29)),
        (1_767_225_599, (2025, 12, 31)),
        (1_767_225_600, (2026, 1, 1)),
        (4_107_542_400, (2100, 3, 1)),
        (253_402_300_799, (9999, 12, 31)),
    ];
    for (seconds, wanted) in cases {
        let date = date(seconds);
        assert_eq!((date.year, date.month, date.day), wanted, "{seconds}");
    }
    assert_eq!(date(u64::MAX).year, 9999, "Python knows no later year");
}

#[test]
fn times_are_of_the_zone_asked_for() {
    let zone = MontyTimeZone { offset_seconds: -5400, name: None };
    let time = date_time(Duration::new(1_767_225_600, 7_000), Some(zone));
    assert_eq!((time.year, time.month, time.day, time.hour, time.minute, time.second), (2025, 12, 31, 22, 30, 0));
    assert_eq!((time.microsecond, time.offset_seconds), (7, Some(-5400)));
    assert_eq!(date_time(Duration::from_secs(1), None).offset_seconds, None);
}

#[test]
fn texts_are_cut_between_characters() {
    assert_eq!(bounded(5, format_args!("{}", "ab\u{20ac}")), "ab\u{20ac}");
    assert_eq!(bounded(4, format_args!("{}{}", "ab", "\u{20ac}")), "ab...");
    assert_eq!(bounded(0, format_args!("")), "");
}
