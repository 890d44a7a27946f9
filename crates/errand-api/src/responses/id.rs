//! Ids of the Responses surface: a response is a run, so each tells the other.

use errand_core::{CallId, RunId};

/// The id of the response that a run is.
pub(crate) fn response(run: RunId) -> String {
    format!("resp_{}", digits(run))
}

/// The run that a response is, if `id` is one of a response.
pub(crate) fn run_of(id: &str) -> Option<RunId> {
    format!("run_{}", id.strip_prefix("resp_")?).parse().ok()
}

/// An item that a reply became. The attempt is in it: what a failed attempt showed was another item.
pub(crate) fn of_reply(prefix: &str, run: RunId, record: u64, attempt: u32) -> String {
    format!("{prefix}_{}_{record}_{attempt}", digits(run))
}

/// An item that a call became.
pub(crate) fn of_call(prefix: &str, run: RunId, call: CallId) -> String {
    format!("{prefix}_{}_{}_{}", digits(run), call.record, call.index)
}

/// The name under which a model knows the call with this id of `run`: within one run names are shorter.
pub(crate) fn inner_call(run: RunId, id: &str) -> Option<String> {
    let rest = id.strip_prefix("call_")?.strip_prefix(digits(run).as_str())?.strip_prefix('_')?;
    Some(format!("call_{rest}"))
}

/// The id under which the caller knows a call that a model knows by a shorter name.
pub(crate) fn outer_call(run: RunId, name: &str) -> String {
    format!("call_{}_{}", digits(run), name.trim_start_matches("call_"))
}

fn digits(run: RunId) -> String {
    run.to_string().trim_start_matches("run_").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use errand_core::Timestamp;

    #[test]
    fn ids_lead_there_and_back() {
        let run = RunId::new(Timestamp::from_millis(1_790_000_000_000), 77);
        assert_eq!(run_of(&response(run)), Some(run));
        for id in ["", "resp_", "run_01HZZZZZZZZZZZZZZZZZZZZZZZ", "resp_run_01HZZZZZZZZZZZZZZZZZZZZZZZ", "resp_../../x"] {
            assert_eq!(run_of(id), None, "{id}");
        }
        let call = CallId { record: 2, index: 1 };
        assert_eq!(inner_call(run, &of_call("call", run, call)).as_deref(), Some("call_2_1"));
        assert_eq!(inner_call(run, "call_2_1"), None);
        assert_eq!(outer_call(run, "call_2_1"), of_call("call", run, call));
    }
}
