//! How long a provider asks to wait.

use reqwest::header::HeaderMap;
use std::time::SystemTime;

/// The wait in milliseconds: `retry-after-ms` (OpenAI's, exact) before `Retry-After` (RFC 9110, 10.2.3: seconds or an
/// HTTP date). A date in the past means 0. What cannot be read counts as absent.
pub(crate) fn retry_after_ms(headers: &HeaderMap, now: SystemTime) -> Option<u64> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let exact = text("retry-after-ms").and_then(|value| milliseconds(value, 1.0));
    exact.or_else(|| {
        let value = text("retry-after")?;
        milliseconds(value, 1_000.0).or_else(|| {
            let at = httpdate::parse_http_date(value).ok()?;
            let wait = at.duration_since(now).unwrap_or_default();
            u64::try_from(wait.as_millis()).ok()
        })
    })
}

/// A number times `unit`, if it is a plain one that is not negative.
fn milliseconds(value: &str, unit: f64) -> Option<u64> {
    let number: f64 = value.parse().ok()?;
    let wait = (number * unit).ceil();
    (wait.is_finite() && wait >= 0.0).then_some(wait as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn check(name: &'static str, value: &str, expected: Option<u64>) {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after_ms(&headers, now), expected, "{name}: {value}");
    }

    #[test]
    fn reads_seconds_dates_and_milliseconds() {
        check("retry-after", "3600", Some(3_600_000));
        check("retry-after", "1.5", Some(1_500));
        check("retry-after-ms", "250", Some(250));
        check("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT", Some(60_000));
        check("retry-after", "Sun, 06 Nov 1994 08:49:30 GMT", Some(0));
    }

    #[test]
    fn nonsense_counts_as_absent() {
        for value in ["soon", "-1", "NaN", "inf", ""] {
            check("retry-after", value, None);
        }
    }

    #[test]
    fn milliseconds_go_before_seconds() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "2".parse().unwrap());
        headers.insert("retry-after-ms", "1700".parse().unwrap());
        assert_eq!(retry_after_ms(&headers, SystemTime::UNIX_EPOCH), Some(1_700));
    }
}
