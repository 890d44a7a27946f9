//! The tools `wait` and `ask_user`: nothing is carried out, the engine waits. Checking them says until when.

use crate::arguments::Refused;
use errand_core::Timestamp;
use serde::Deserialize;

/// Nobody waits longer than ten years: 3,652 days and a half.
const WAIT_MS_MAX: u64 = 3652 * 86_400_000 + 43_200_000;

/// Arguments of `wait`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wait {
    seconds: Option<u64>,
    until: Option<String>,
}

/// Arguments of `ask_user`. The question and the options are shown to the person from the call's arguments.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskUser {
    #[serde(rename = "question")]
    _question: String,
    #[serde(rename = "options")]
    _options: Option<Vec<String>>,
    timeout_s: Option<u64>,
}

impl Wait {
    /// When the wait is over. A time that has passed is over at once.
    pub(crate) fn until(&self, now: Timestamp) -> Result<Timestamp, Refused> {
        let until = match (self.seconds, &self.until) {
            (Some(seconds), None) => now.plus(seconds.saturating_mul(1000)),
            (None, Some(text)) => moment(text)?,
            _ => return Err(Refused::invalid("give either `seconds` or `until`")),
        };
        if until.since(now) > WAIT_MS_MAX {
            return Err(Refused::invalid("`until` is more than ten years away: choose an earlier time"));
        }
        Ok(until)
    }
}

impl AskUser {
    /// Until when an answer is waited for.
    pub(crate) fn until(&self, now: Timestamp) -> Option<Timestamp> {
        self.timeout_s.map(|seconds| now.plus(seconds.saturating_mul(1000)))
    }
}

fn moment(text: &str) -> Result<Timestamp, Refused> {
    let wrong = |problem: &str| {
        Refused::invalid(format!("`until` is no RFC 3339 time with an offset, such as 2026-05-01T09:00:00Z: {problem}"))
    };
    // RFC 3339 has no annotations; the parser would take the name of a time zone.
    if text.contains('[') {
        return Err(wrong("leave out what stands in brackets"));
    }
    let time: jiff::Timestamp = text.parse().map_err(|error: jiff::Error| wrong(&error.to_string()))?;
    let millis = u64::try_from(time.as_millisecond()).map_err(|_| wrong("it is before 1970"))?;
    Ok(Timestamp::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const NOW: Timestamp = Timestamp::from_millis(1_770_000_000_000);

    fn until(arguments: serde_json::Value) -> Result<u64, String> {
        let wait: Wait = serde_json::from_value(arguments).unwrap();
        wait.until(NOW).map(Timestamp::as_millis).map_err(|error| error.to_string())
    }

    #[test]
    fn the_end_of_a_wait_is_worked_out() {
        assert_eq!(until(json!({"seconds": 90})), Ok(NOW.as_millis() + 90_000));
        assert_eq!(until(json!({"until": "2026-05-01T09:00:00+02:00"})), Ok(1_777_618_800_000));
        assert_eq!(until(json!({"until": "1999-01-01T00:00:00Z"})), Ok(915_148_800_000));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in [
            "tomorrow",
            "2026-05-01",
            "2026-05-01T09:00:00",
            "2026-05-01T09:00:00+02:00[Europe/Berlin]",
            "1969-01-01T00:00:00Z",
            "",
        ] {
            assert!(until(json!({"until": bad})).unwrap_err().contains("RFC 3339"), "{bad}");
        }
        assert!(until(json!({"until": "2099-01-01T00:00:00Z"})).unwrap_err().contains("ten years"));
        assert!(until(json!({})).unwrap_err().contains("either"));
        assert!(until(json!({"seconds": 1, "until": "2026-05-01T09:00:00Z"})).unwrap_err().contains("either"));
    }

    #[test]
    fn a_question_may_have_an_end() {
        let ask = |value| serde_json::from_value::<AskUser>(value).unwrap().until(NOW);
        assert_eq!(ask(json!({"question": "Which?"})), None);
        assert_eq!(ask(json!({"question": "Which?", "options": ["a", "b"], "timeout_s": 60})), Some(NOW.plus(60_000)));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = until(json!({"until": text}));
        }

        #[test]
        fn no_time_like_text_makes_it_panic(text in "[-+0-9TZ:. ]{0,40}") {
            let _ = until(json!({"until": text}));
        }
    }
}
