//! How a case is shown: the one place where ids, hashes and times are made the same on every machine and in every run.

use super::stage::{BEGIN, Executed};
use errand_core::{
    Booked, CallState, Decision, Due, Effect, Event, Head, ItemBody, Message, ModelRequest, ModelTask, Observation, Outcome,
    Record, RunId, RunLog, Status, Timestamp, Verdict,
};
use errand_engine::Cancellation;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Longest text shown whole, in characters.
const TEXT_MAX: usize = 160;

/// Everything that came of a case.
pub(super) fn all(
    told: &[String],
    names: &[RunId],
    runs: &[RunLog],
    requests: &[Option<ModelRequest>],
    executed: &BTreeMap<String, Executed>,
) -> String {
    let mut out = String::new();
    for line in told {
        out.push_str(line);
        out.push('\n');
    }
    for (log, request) in runs.iter().zip(requests) {
        run(&mut out, log, request.as_ref());
    }
    let mut executed: Vec<&Executed> = executed.values().collect();
    executed.sort_by_key(|one| (names.iter().position(|run| *run == one.born), one.call));
    if !executed.is_empty() {
        out.push_str("\nexecuted\n");
    }
    for one in executed {
        let Executed { born, call, tool, arguments, times, .. } = one;
        let _ = writeln!(out, "  {born} {call} {tool} {} x{times}", cut(arguments));
    }
    redact(&out, names)
}

/// What a cancel said.
pub(super) fn cancellation(cancellation: &Cancellation) -> String {
    let calls: Vec<String> = cancellation.calls.iter().map(ToString::to_string).collect();
    let attempts: Vec<String> = cancellation.attempts.iter().map(ToString::to_string).collect();
    let mut text = cancellation.status.code().to_owned();
    if !attempts.is_empty() {
        let _ = write!(text, ", model attempts under way: {}", attempts.join(" "));
    }
    if !calls.is_empty() {
        let _ = write!(text, ", calls under way: {}", calls.join(" "));
    }
    text
}

/// Run ids become the names that the case gives them; then long texts are cut.
fn redact(text: &str, names: &[RunId]) -> String {
    let named = (1..).zip(names);
    let text = named.fold(text.to_owned(), |text, (number, run)| text.replace(&run.to_string(), &format!("R{number}")));
    let mut parts = text.split(['\u{1}', '\u{2}']);
    let mut out = parts.next().unwrap_or_default().to_owned();
    // Texts to be cut and what stands between them take turns.
    while let (Some(cut), Some(between)) = (parts.next(), parts.next()) {
        match cut.chars().count() {
            count if count > TEXT_MAX => {
                let _ = write!(out, "{}… ({count} characters)", cut.chars().take(TEXT_MAX / 2).collect::<String>());
            }
            _ => out.push_str(cut),
        }
        out.push_str(between);
    }
    out
}

/// The records of a run without their times: what must be the same however often the engine is stopped.
pub(super) fn records(log: &RunLog, names: &[RunId]) -> String {
    let mut out = String::new();
    for sealed in log.records.iter().filter(|sealed| sealed.record.run == log.run.id) {
        let timeless = Record { at: Timestamp::from_millis(BEGIN), ..(*sealed.record).clone() };
        record(&mut out, &timeless, log);
    }
    redact(&out, names)
}

fn run(out: &mut String, log: &RunLog, request: Option<&ModelRequest>) {
    let _ = writeln!(out, "\n{}", log.run.id);
    for sealed in log.records.iter().filter(|sealed| sealed.record.run == log.run.id) {
        record(out, &sealed.record, log);
    }
    beside(out, log);
    status(out, log);
    if let Some(request) = request {
        let _ = writeln!(out, "  the model was last sent");
        request.messages.iter().for_each(|message| said(out, message));
    }
}

/// Results that came too late for the log.
fn beside(out: &mut String, log: &RunLog) {
    for item in log.items.values().filter(|item| !log.is_consumed(&item.key)) {
        if let ItemBody::Result { observation } = &item.body {
            let _ = write!(out, "  beside the log");
            observed(out, observation);
            out.push('\n');
        }
    }
}

fn record(out: &mut String, record: &Record, log: &RunLog) {
    let _ = write!(out, "  {:>2} {:>5} {}", record.number, time(record.at), record.event.kind());
    event(out, record);
    for booked in &record.books {
        book(out, booked);
    }
    if record.head.status.is_ended() {
        let _ = write!(out, "\n       {}", record.head.status.code());
    }
    for effect in record.head.effects() {
        let _ = write!(out, "\n       -> {}", asked(&effect, record.at));
    }
    due(out, &record.head, log);
    out.push('\n');
}

fn event(out: &mut String, record: &Record) {
    let _ = match &record.event {
        Event::Started(started) => {
            let _ = write!(out, " {}", quoted(&started.task));
            if let Some(history) = &started.history {
                let _ = write!(out, " after {}@{}", history.run, history.number);
            }
            if let Some(parent) = &started.parent {
                let _ = write!(out, " for {} call {}", parent.run, parent.call);
            }
            started.withdrawn.as_ref().map_or(Ok(()), |_| write!(out, " withdrawn"))
        }
        Event::Compacted(compacted) => write!(
            out,
            " {} through {} size {}/{}",
            quoted(&compacted.reply.text),
            compacted.through,
            compacted.size.bytes,
            compacted.size.messages
        ),
        Event::ModelReplied(replied) => {
            let _ = write!(out, " {}", quoted(&replied.reply.text));
            if let Some(fault) = replied.fault() {
                let _ = write!(out, " fault: {fault:?}");
            }
            for (index, (call, verdict)) in replied.reply.calls.iter().zip(&replied.verdicts).enumerate() {
                let id = errand_core::CallId { record: record.number, index: index as u32 };
                let _ = write!(out, "\n       {id} {} {}", call.name, cut(&call.arguments));
                if let Verdict::Refused { code, error } = verdict {
                    let _ = write!(out, " refused {code}: {}", cut(error));
                }
            }
            if let Some(misfit) = &replied.misfit {
                let _ = write!(out, ": {}", cut(misfit));
            }
            replied.observations.iter().for_each(|one| observed(out, one));
            Ok(())
        }
        Event::ModelFailed(failed) => write!(out, " {}", failed.error.kind.code()),
        Event::Observed(event) => {
            event.observations.iter().for_each(|one| observed(out, one));
            Ok(())
        }
        Event::Decided(decided) => {
            let decision = match &decided.decision {
                Decision::Approve => "approved".to_owned(),
                Decision::Edit { arguments } => format!("edited to {arguments}"),
                Decision::Reject { reason } => format!("rejected {}", quoted(reason)),
                Decision::Happened { note } => format!("happened {}", quoted(note)),
                Decision::NotHappened { note } => format!("not happened {}", quoted(note)),
            };
            write!(out, " {} {decision} by {}", decided.call, decided.by)
        }
        Event::Messaged(messaged) => {
            messaged.messages.iter().try_for_each(|message| write!(out, " {}", quoted(&message.text)))
        }
        Event::Cancelled(cancelled) => write!(out, " {} by {}", quoted(&cancelled.reason), cancelled.by),
        Event::BudgetExceeded(exceeded) => write!(out, " {:?}", exceeded.bound),
        Event::BudgetRaised(raised) => write!(out, " by {}", raised.who),
        Event::Failed(failed) => write!(out, " {}", failed.code),
        Event::Forked(forked) => {
            let _ = write!(out, " from {}@{}", forked.origin, forked.at);
            forked.carried.iter().for_each(|one| observed(out, one));
            Ok(())
        }
    };
}

fn observed(out: &mut String, observation: &Observation) {
    let outcome = match &observation.outcome {
        Outcome::Ok { text } => format!("ok {}", quoted(text)),
        Outcome::Error { code, text } => format!("error {code} {}", quoted(text)),
        Outcome::Unknown { reason } => format!("unknown {}", quoted(reason)),
        Outcome::Rejected { reason } => format!("rejected {}", quoted(reason)),
    };
    let _ = write!(out, "\n       {} = {outcome}", observation.call);
    if observation.spent != errand_core::Amount::ZERO {
        let _ = write!(out, " for {}", observation.spent.usd);
    }
}

fn book(out: &mut String, booked: &Booked) {
    let spent = &booked.spent;
    let unconfirmed = if spent.confirmed { "" } else { ", unconfirmed" };
    let _ = write!(
        out,
        "\n       booked attempt {}.{}: {}, {} tokens{unconfirmed}",
        booked.record, booked.attempt, spent.amount.usd, spent.amount.tokens
    );
}

fn asked(effect: &Effect, at: Timestamp) -> String {
    match effect {
        Effect::MakeNext { not_before: None } => "make the next record".to_owned(),
        Effect::MakeNext { not_before: Some(time) } => {
            format!("make the next record in {}", span(time.since(at)))
        }
        Effect::CallTool { call } => format!("call {call}"),
        Effect::StartRun { call, run, slice } => {
            let tokens = if slice.tokens > u64::MAX / 16 { "any".to_owned() } else { slice.tokens.to_string() };
            let usd = if slice.usd.nanos() > u64::MAX / 16 { "any money".to_owned() } else { slice.usd.to_string() };
            format!("start {run} for {call} with {usd}, {tokens} tokens")
        }
        Effect::Ask { call } => format!("ask about {call}"),
        Effect::StopRun { call, run } => format!("stop {run} for {call}"),
        Effect::TellParent { run } => format!("tell {run}"),
    }
}

/// What effects do not show of what is due.
fn due(out: &mut String, head: &Head, log: &RunLog) {
    match &head.due {
        Due::Model { max_output_tokens, reserve, task, .. } => {
            let limits = &log.run.config.limits;
            let limit = match task {
                ModelTask::Turn => limits.output_tokens,
                ModelTask::Compact { cut } => {
                    let texts = if *cut { ", long texts cut" } else { "" };
                    let model = &log.run.config.model_for(head, *task).name;
                    let _ = write!(out, "\n       to shorten the conversation with {model}{texts}");
                    limits.summary_tokens
                }
            };
            if *max_output_tokens < limit {
                let _ = write!(out, "\n       at most {max_output_tokens} tokens of output, reserving {}", reserve.usd);
            }
        }
        Due::Calls { calls } => {
            for call in calls.iter().filter(|call| matches!(call.state, CallState::Unknown)) {
                let _ = write!(out, "\n       {} is unknown", call.id);
            }
        }
        Due::Budget => out.push_str("\n       paused at the budget"),
        Due::Nothing { .. } => {}
    }
}

fn status(out: &mut String, log: &RunLog) {
    let head = &log.run.head;
    let more = match &head.status {
        Status::Failed { code, message } => format!(" {code}: {}", cut(message)),
        Status::Cancelled { reason } => format!(" {}", quoted(reason)),
        Status::BudgetExceeded { bound } => format!(" {bound:?}"),
        Status::Done => format!(" {}", quoted(log.answer().unwrap_or_default())),
        _ => String::new(),
    };
    let _ = writeln!(out, "  {}{more}", head.status.code());
    let totals = &head.totals;
    let _ = writeln!(
        out,
        "  {} ({} unconfirmed), {} tokens, {} steps, {} calls, {} at work",
        totals.spent.usd,
        totals.unconfirmed,
        totals.spent.tokens,
        totals.steps,
        totals.calls,
        span(totals.active_ms)
    );
    let bill = log.bill();
    if bill.total() != totals.spent {
        let _ = writeln!(out, "  besides: {} wasted, {} open", bill.waste.usd, bill.open.usd);
    }
}

fn said(out: &mut String, message: &Message) {
    let _ = match message {
        Message::System { text } => writeln!(out, "    system    {}", cut(text)),
        Message::User { text, .. } => writeln!(out, "    user      {}", cut(text)),
        Message::Assistant { text, calls, .. } => {
            let calls: Vec<String> =
                calls.iter().map(|call| format!("[{} {} {}]", call.id, call.name, cut(&call.arguments))).collect();
            writeln!(out, "    assistant {} {}", cut(text), calls.join(" "))
        }
        Message::Tool { call_id, text, is_error, .. } => {
            writeln!(out, "    tool      {call_id}{} {}", if *is_error { " !" } else { "" }, cut(text))
        }
    };
}

/// Seconds since the case began. Times are rounded up to a second, for delays are spread by the ledger's hashes.
fn time(at: Timestamp) -> String {
    match at.as_millis().checked_sub(BEGIN) {
        Some(millis) => span(millis),
        None => format!("-{}", span(BEGIN - at.as_millis())),
    }
}

fn span(millis: u64) -> String {
    format!("{}s", millis.div_ceil(1_000))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", cut(text))
}

/// Marks a text to be cut, once ids are redacted.
fn cut(text: &str) -> String {
    format!("\u{1}{}\u{2}", text.replace('\n', "\\n"))
}
