//! The interpreter itself: one piece of code after another over the same variables, with nothing of the host within reach.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use monty::{MontyRepl, ReplProgress, ReplStartError};
use monty_types::{
    CompileOptions, ExcType, ExtFunctionResult, MontyDate, MontyDateTime, MontyException, MontyObject, MontyTimeZone,
    NameLookupResult, OsFunctionCall, PrintWriter, PrintWriterCallback, ResourceLimits, ResourceTracker,
};

use super::frame::How;

/// Depth of calls at which Python code gets a `RecursionError`.
const RECURSION_MAX: usize = 1000;
/// How often one piece of code may ask the host for something (the time, the environment): a bound for loops of them.
const QUESTIONS_MAX: usize = 100_000;
/// Longest value that is told, in bytes.
const VALUE_BYTES_MAX: usize = 16 << 10;
/// Longest text of an exception with its traceback, in bytes.
const TRACEBACK_BYTES_MAX: usize = 16 << 10;
const NO_FILES: &str = "tier t0 has no files: give data in the code, or use a box (tier t1)";

/// Where what the code prints goes.
pub(crate) trait Sink {
    /// A piece of standard output. False when nobody reads any longer.
    fn print(&mut self, text: &str) -> bool;
    /// Called from time to time while code runs without printing.
    fn breathe(&mut self) -> bool;
}

/// How a piece of code ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) how: How,
    /// Exit status.
    pub(crate) code: i32,
    /// What its last expression came to, unless that is `None`.
    pub(crate) value: Option<String>,
    /// For standard error.
    pub(crate) trace: String,
}

/// An interpreter with its variables.
#[derive(Debug)]
pub(crate) struct Interpreter {
    /// Away only while code runs.
    state: Option<MontyRepl>,
}

impl Interpreter {
    /// One without variables. `memory_bytes` holds where [`super::CountingAllocator`] is installed.
    pub(crate) fn new(memory_bytes: usize) -> Interpreter {
        let limits = ResourceLimits::default().max_memory(memory_bytes).max_recursion_depth(RECURSION_MAX);
        let options = CompileOptions { assert_message_annotations: false.into() };
        Interpreter { state: Some(MontyRepl::new("script.py", ResourceTracker::new(limits), options)) }
    }

    /// Runs one piece of code.
    pub(crate) fn run(&mut self, code: &str, wall: Duration, sink: &mut dyn Sink) -> Ended {
        let Some(mut state) = self.state.take() else { return lost() };
        state.tracker_mut().set_max_duration(wall);
        let mut printer = Printer(sink);
        let (state, result) = drive(state, code, &mut printer);
        let ended = match result {
            Ok(value) => Ended { how: How::Itself, code: 0, value: told(&value), trace: String::new() },
            Err(error) => failed(&error, state.tracker().check_time().is_err()),
        };
        self.state = Some(state);
        ended
    }
}

/// Only after a panic within the interpreter, which ends its process.
fn lost() -> Ended {
    Ended { how: How::Itself, code: 70, value: None, trace: "the interpreter is lost\n".to_owned() }
}

fn failed(error: &MontyException, out_of_time: bool) -> Ended {
    let is_memory = error.exc_type() == ExcType::MemoryError;
    let how = match (out_of_time, is_memory) {
        (true, _) => How::OutOfTime,
        (false, true) => How::OutOfMemory,
        (false, false) => How::Itself,
    };
    let (code, mut trace) = match (error.exc_type(), error.message()) {
        // As CPython does it: no argument is a good end, a text is told and is none.
        (ExcType::SystemExit, None) => (0, String::new()),
        (ExcType::SystemExit, Some(text)) => (1, bounded(TRACEBACK_BYTES_MAX, format_args!("{text}"))),
        _ => (1, bounded(TRACEBACK_BYTES_MAX, format_args!("{error}"))),
    };
    if !trace.is_empty() && !trace.ends_with('\n') {
        trace.push('\n');
    }
    Ended { how, code, value: None, trace }
}

/// Runs to the end and answers what the code asks of its host on the way.
fn drive(state: MontyRepl, code: &str, printer: &mut Printer<'_>) -> (MontyRepl, Result<MontyObject, MontyException>) {
    let mut progress = state.feed_start(code, Vec::new(), PrintWriter::Callback(printer));
    for _ in 0..QUESTIONS_MAX {
        let print = PrintWriter::Callback(printer);
        progress = match progress {
            Ok(ReplProgress::Complete { repl, value }) => return (repl, Ok(value)),
            Ok(ReplProgress::OsCall(call)) => call.resume_with(print, answer),
            Ok(ReplProgress::NameLookup(name)) => name.resume(NameLookupResult::Undefined, print),
            Ok(ReplProgress::FunctionCall(call)) => {
                let name = call.function_name.clone();
                call.resume(ExtFunctionResult::NotFound(name), print)
            }
            Ok(ReplProgress::ResolveFutures(futures)) => futures.abort(refused("nothing here can be awaited"), print),
            Err(error) => return ended_by(*error),
        };
    }
    match progress {
        Ok(ReplProgress::Complete { repl, value }) => (repl, Ok(value)),
        Ok(open) => (open.into_repl(), Err(refused("this code asked its host too many questions"))),
        Err(error) => ended_by(*error),
    }
}

fn ended_by(error: ReplStartError) -> (MontyRepl, Result<MontyObject, MontyException>) {
    (error.repl, Err(error.error))
}

fn refused(reason: &str) -> MontyException {
    MontyException::new(ExcType::RuntimeError, Some(reason.to_owned()))
}

/// What code learns of the host: the time in UTC, and that there is nothing else.
fn answer(call: OsFunctionCall) -> ExtFunctionResult {
    match call {
        OsFunctionCall::DateToday => MontyObject::Date(date(since_epoch().as_secs())).into(),
        OsFunctionCall::DateTimeNow(zone) => MontyObject::DateTime(date_time(since_epoch(), zone)).into(),
        OsFunctionCall::Getenv(asked) => asked.default.into(),
        OsFunctionCall::GetEnviron => MontyObject::dict(Vec::new()).into(),
        _ => MontyException::new(ExcType::PermissionError, Some(NO_FILES.to_owned())).into(),
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn date_time(now: Duration, zone: Option<MontyTimeZone>) -> MontyDateTime {
    let offset = zone.as_ref().map_or(0, |zone| i64::from(zone.offset_seconds));
    let seconds = now.as_secs().saturating_add_signed(offset);
    let MontyDate { year, month, day } = date(seconds);
    // Each is below 60.
    let part = |of: u64| u8::try_from(of % 60).unwrap_or(0);
    MontyDateTime {
        year,
        month,
        day,
        hour: u8::try_from(seconds / 3600 % 24).unwrap_or(0),
        minute: part(seconds / 60),
        second: part(seconds),
        microsecond: now.subsec_micros(),
        offset_seconds: zone.as_ref().map(|zone| zone.offset_seconds),
        timezone_name: zone.and_then(|zone| zone.name),
    }
}

/// The day of a second since 1970, counted year by year and month by month. Python's calendar ends with the year 9999.
fn date(seconds: u64) -> MontyDate {
    let (mut days, mut year) = (seconds / 86_400, 1970);
    while days >= days_in_year(year) && year < 9999 {
        days -= days_in_year(year);
        year += 1;
    }
    let february = days_in_year(year) - 337;
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    MontyDate { year, month, day: u8::try_from(days.min(30) + 1).unwrap_or(1) }
}

fn days_in_year(year: i32) -> u64 {
    if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) { 366 } else { 365 }
}

fn told(value: &MontyObject) -> Option<String> {
    match value {
        MontyObject::None => None,
        // Of a text, what is shown by itself is no Python.
        MontyObject::String(text) if text.len() <= VALUE_BYTES_MAX => {
            Some(bounded(VALUE_BYTES_MAX, format_args!("{}", value.py_repr())))
        }
        MontyObject::String(text) => Some(format!("<text of {} bytes>", text.len())),
        _ => Some(bounded(VALUE_BYTES_MAX, format_args!("{value}"))),
    }
}

/// What a formatter writes, cut after `max` bytes: the rest is not even made.
fn bounded(max: usize, text: std::fmt::Arguments<'_>) -> String {
    let mut bounded = Bounded { text: String::new(), left: max };
    if bounded.write_fmt(text).is_err() {
        bounded.text.push_str("...");
    }
    bounded.text
}

struct Bounded {
    text: String,
    left: usize,
}

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        let end = piece.floor_char_boundary(self.left.min(piece.len()));
        self.text.push_str(&piece[..end]);
        self.left -= end;
        if end < piece.len() { Err(std::fmt::Error) } else { Ok(()) }
    }
}

struct Printer<'a>(&'a mut dyn Sink);

impl Printer<'_> {
    fn check(reads: bool) -> Result<(), MontyException> {
        if reads { Ok(()) } else { Err(refused("nobody reads the output")) }
    }
}

impl PrintWriterCallback for Printer<'_> {
    fn stdout_write(&mut self, output: Cow<'_, str>) -> Result<(), MontyException> {
        Printer::check(self.0.print(&output))
    }

    fn stdout_push(&mut self, end: char) -> Result<(), MontyException> {
        Printer::check(self.0.print(end.encode_utf8(&mut [0; 4])))
    }

    fn poll_flush(&mut self) -> Result<(), MontyException> {
        Printer::check(self.0.breathe())
    }
}

#[cfg(test)]
mod tests;
