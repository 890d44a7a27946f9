//! Following one run: shows how it goes, asks the person at the terminal, and tells when there is nothing to wait for.

use crate::error::{Error, Exit};
use crate::host::Host;
use crate::live::Live;
use crate::operation::Operation;
use crate::signals::{Signal, Signals};
use crate::stdin::Lines;
use crate::view::View;
use crate::view::lines::{Tone, pretty, question};
pub(crate) use errand_api::{Standing, standing};
use errand_core::{CallId, CallState, Decision, Due, Head, RunId, RunLog, Status};
use std::time::Duration;

/// How often the moving line moves.
const TICK: Duration = Duration::from_millis(120);

/// Why following ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The run has ended, or only a person can make it go on.
    Settled(Exit),
    /// The process was asked to stop.
    Stopped(Signal),
}

/// The exit status that fits how a run stands.
pub(crate) fn exit_of(head: &Head) -> Exit {
    match &head.status {
        Status::Done => Exit::Done,
        Status::Failed { .. } | Status::Cancelled { .. } => Exit::Failed,
        Status::BudgetExceeded { .. } | Status::Paused => Exit::Budget,
        Status::Waiting | Status::Running => Exit::Person,
    }
}

/// What a follower needs of the terminal.
pub(crate) struct Terminal {
    pub(crate) signals: Signals,
    pub(crate) lines: Lines,
    /// Whether somebody is there to answer.
    pub(crate) is_interactive: bool,
    /// Who that is, for the record.
    pub(crate) user: String,
}

/// Follows `view`'s run until it has ended, waits for a person who is not here, or the process is asked to stop.
pub(crate) async fn follow(host: &mut Host, view: &mut View, terminal: &mut Terminal) -> Result<Ending, Error> {
    let run = view.run();
    let mut ask: Option<Ask> = None;
    let mut look = true;
    let mut tick = tokio::time::interval(TICK);
    loop {
        if std::mem::take(&mut look) {
            let log = host.driver.load(run).await?;
            match standing(&log, now()) {
                Standing::Going => ask = None,
                Standing::Person if terminal.is_interactive => {
                    let next = Ask::first(&log);
                    if ask.as_ref().map(Ask::call) != next.as_ref().map(Ask::call) {
                        ask = next;
                        prompt(view, ask.as_ref());
                    }
                }
                Standing::Person | Standing::Paused | Standing::Ended => {
                    drain(host, view);
                    view.close();
                    return Ok(Ending::Settled(exit_of(&log.run.head)));
                }
            }
        }
        tokio::select! {
            live = host.live.recv() => {
                let Some(live) = live else { return Err(Error::new("engine_stopped", "the engine stopped by itself")) };
                if let Live::Broken { code, message } = live {
                    view.close();
                    return Err(Error::new(code, message));
                }
                if live.run().is_none_or(|of| of == run) {
                    view.show(&live);
                    look = matches!(live, Live::Recorded { .. });
                }
            }
            line = terminal.lines.next(), if ask.is_some() => {
                let Some(asked) = ask.take() else { continue };
                match line.map(|line| asked.answered(line.trim())) {
                    None | Some(Answered::Later) => {
                        view.close();
                        return Ok(Ending::Settled(Exit::Person));
                    }
                    Some(Answered::More(more)) => {
                        ask = Some(more);
                        prompt(view, ask.as_ref());
                    }
                    Some(Answered::Do(operation)) => {
                        let operation = operation(run);
                        if let Err(error) = operation.apply(&host.driver, &terminal.user).await {
                            view.line(Tone::Bad, &format!("error[{}]: {}", error.code, error.message));
                        }
                        look = true;
                    }
                }
            }
            _ = tick.tick() => view.tick(),
            signal = terminal.signals.next() => {
                drain(host, view);
                view.close();
                return Ok(Ending::Stopped(signal));
            }
        }
    }
}

/// Shows what has already happened.
fn drain(host: &mut Host, view: &mut View) {
    while let Ok(live) = host.live.try_recv() {
        if live.run() == Some(view.run()) {
            view.show(&live);
        }
    }
}

fn prompt(view: &mut View, ask: Option<&Ask>) {
    if let Some(ask) = ask {
        view.prompt(&ask.prompt());
    }
}

/// The time now, for what only displays and decides nothing.
pub(crate) fn now() -> errand_core::Timestamp {
    errand_engine::ports::World::now(&errand_store_local::SystemWorld)
}

/// What a person is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ask {
    Approval { call: CallId, tool: String },
    Arguments { call: CallId, tool: String },
    Reason { call: CallId },
    Question { call: CallId, arguments: String },
    Unknown { call: CallId, tool: String, arguments: String },
}

/// What the answer comes to.
enum Answered {
    Later,
    More(Ask),
    Do(Box<dyn FnOnce(RunId) -> Operation + Send>),
}

impl Ask {
    /// What the first call that waits for a person asks.
    fn first(log: &RunLog) -> Option<Self> {
        let Due::Calls { calls } = &log.run.head.due else { return None };
        calls.iter().find_map(|pending| {
            let (call, tool) = (pending.id, pending.tool.clone());
            let arguments = || log.call(call).map_or_else(String::new, |made| made.arguments.to_owned());
            match pending.state {
                CallState::Approval => Some(Ask::Approval { call, tool }),
                CallState::Person { .. } => Some(Ask::Question { call, arguments: arguments() }),
                CallState::Unknown => Some(Ask::Unknown { call, tool, arguments: arguments() }),
                _ => None,
            }
        })
    }

    fn call(&self) -> CallId {
        match self {
            Ask::Approval { call, .. }
            | Ask::Arguments { call, .. }
            | Ask::Reason { call }
            | Ask::Question { call, .. }
            | Ask::Unknown { call, .. } => *call,
        }
    }

    fn prompt(&self) -> String {
        match self {
            Ask::Approval { call, tool } => format!("make {tool} {call}? [y]es, [n]o, [e]dit arguments, [l]ater: "),
            Ask::Arguments { .. } => "arguments as a JSON object on one line (empty: back): ".to_owned(),
            Ask::Reason { .. } => "why not? the model is told: ".to_owned(),
            Ask::Question { .. } => "your answer (empty: later): ".to_owned(),
            Ask::Unknown { tool, arguments, .. } => {
                format!("{}\ndid {tool} take hold? [y]es, [n]o, [l]ater: ", pretty(arguments))
            }
        }
    }

    fn answered(self, line: &str) -> Answered {
        let word = line.to_lowercase();
        match self {
            Ask::Approval { call, tool } => match word.as_str() {
                "y" | "yes" => decide(call, Decision::Approve),
                "n" | "no" => Answered::More(Ask::Reason { call }),
                "e" | "edit" => Answered::More(Ask::Arguments { call, tool }),
                "l" | "later" => Answered::Later,
                _ => Answered::More(Ask::Approval { call, tool }),
            },
            Ask::Arguments { call, tool } if line.is_empty() => Answered::More(Ask::Approval { call, tool }),
            Ask::Arguments { call, .. } => decide(call, Decision::Edit { arguments: line.to_owned() }),
            Ask::Reason { call } => {
                let reason = if line.is_empty() { "no reason was given" } else { line };
                decide(call, Decision::Reject { reason: reason.to_owned() })
            }
            Ask::Question { .. } if line.is_empty() => Answered::Later,
            Ask::Question { call, arguments } => {
                let text = chosen(&arguments, line);
                Answered::Do(Box::new(move |run| Operation::Answer { run, call: Some(call), text }))
            }
            Ask::Unknown { call, tool, arguments } => match word.as_str() {
                "y" | "yes" => decide(call, Decision::Happened { note: String::new() }),
                "n" | "no" => decide(call, Decision::NotHappened { note: String::new() }),
                "l" | "later" => Answered::Later,
                _ => Answered::More(Ask::Unknown { call, tool, arguments }),
            },
        }
    }
}

fn decide(call: CallId, decision: Decision) -> Answered {
    Answered::Do(Box::new(move |run| Operation::Decide { run, call: Some(call), decision }))
}

/// The option that a number stands for, or the line itself.
fn chosen(arguments: &str, line: &str) -> String {
    let options = serde_json::from_str::<serde_json::Value>(arguments).unwrap_or_default();
    let option = line.parse::<usize>().ok().and_then(|number| options["options"].get(number.checked_sub(1)?)?.as_str());
    option.unwrap_or(line).to_owned()
}

/// What a run waits for, for people.
pub(crate) fn waits_for(log: &RunLog) -> Vec<String> {
    let run = log.run.id;
    let told = |pending: &errand_core::PendingCall| {
        let (call, tool) = (pending.id, crate::text::neutral(&pending.tool));
        let arguments = log.call(call).map_or("", |made| made.arguments);
        Some(match pending.state {
            CallState::Approval => {
                format!(
                    "{tool} {call} waits for approval: errand approve {run} --call {call}, or errand reject {run} --call {call} --reason TEXT"
                )
            }
            CallState::Person { .. } => {
                let asked = crate::text::one_line(&question(arguments), 200);
                format!("{call} asks: {asked}: errand answer {run} TEXT")
            }
            CallState::Unknown => {
                format!(
                    "nobody knows whether {tool} {call} took hold: errand resolve {run} --call {call} --happened or --not-happened"
                )
            }
            _ => return None,
        })
    };
    log.run.head.due.calls().iter().filter_map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: CallId = CallId { record: 2, index: 0 };

    fn operation(answered: Answered) -> Operation {
        let run = "run_01HZZZZZZZZZZZZZZZZZZZZZZZ".parse().unwrap();
        match answered {
            Answered::Do(operation) => operation(run),
            Answered::Later => panic!("later"),
            Answered::More(ask) => panic!("{ask:?}"),
        }
    }

    #[test]
    fn a_no_asks_for_the_reason_and_nothing_is_approved_by_accident() {
        let approval = || Ask::Approval { call: CALL, tool: "shell".to_owned() };
        assert!(matches!(approval().answered(""), Answered::More(Ask::Approval { .. })));
        assert!(matches!(approval().answered("yess"), Answered::More(Ask::Approval { .. })));
        let Answered::More(reason) = approval().answered("n") else { panic!("no reason asked for") };
        let Operation::Decide { decision, .. } = operation(reason.answered("too risky")) else { panic!("no decision") };
        assert_eq!(decision, Decision::Reject { reason: "too risky".to_owned() });
        let Operation::Decide { decision, .. } = operation(approval().answered("Y")) else { panic!("no decision") };
        assert_eq!(decision, Decision::Approve);
    }

    #[test]
    fn a_number_stands_for_an_option() {
        let arguments = "{\"question\":\"q\",\"options\":[\"red\",\"blue\"]}";
        assert_eq!([chosen(arguments, "2"), chosen(arguments, "3"), chosen(arguments, "green")], ["blue", "3", "green"]);
        assert_eq!(chosen("{}", "0"), "0");
    }
}
