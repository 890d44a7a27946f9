//! How a run looks while it goes on: lines and a moving line for people, JSON lines for machines.

pub(crate) mod lines;

use crate::live::Live;
use crate::text;
use errand_api::events::{Kind, Projector, PublicEvent};
use errand_core::{RunId, Sealed};
use errand_engine::ports::Delta;
use lines::Tone;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// After so long something is said about what is under way.
const QUIET: Duration = Duration::from_millis(800);
/// Without a terminal it is said again after so long.
const AGAIN: Duration = Duration::from_secs(15);

const FRAMES: [char; 8] = ['⣾', '⣽', '⣻', '⢿', '⡿', '⣟', '⣯', '⣷'];

/// Who looks on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    People,
    Machines,
}

/// The view of one run.
pub(crate) struct View {
    audience: Audience,
    is_terminal: bool,
    color: bool,
    projector: Projector,
    run: RunId,
    /// Number of the last record that was taken in.
    seen: u64,
    /// The record whose text is being shown as it comes.
    streaming: Option<u64>,
    is_mid_line: bool,
    is_moving_shown: bool,
    activity: Option<(String, Instant)>,
    said: Option<Instant>,
    frame: usize,
    last_kind_shown: Option<Tone>,
}

impl View {
    pub(crate) fn new(run: RunId, audience: Audience, color: bool) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self {
            audience,
            is_terminal,
            color: color && is_terminal,
            projector: Projector::new(run),
            run,
            seen: 0,
            streaming: None,
            is_mid_line: false,
            is_moving_shown: false,
            activity: None,
            said: None,
            frame: 0,
            last_kind_shown: None,
        }
    }

    /// Takes in what happened before anybody looked, without showing it.
    pub(crate) fn skip(&mut self, records: &[Sealed]) {
        for sealed in records {
            self.projector.push(&sealed.record);
            self.seen = sealed.record.number;
        }
    }

    /// Shows what happened.
    pub(crate) fn show(&mut self, live: &Live) {
        match live {
            Live::Recorded { record, .. } => self.record(record),
            Live::Attempt { record, attempt, .. } => self.attempt(*record, *attempt),
            Live::Delta { record, delta, .. } => self.delta(*record, delta),
            Live::Calling { call, .. } => self.begin(format!("{} {call}", text::one_line(self.projector.tool(*call), 64))),
            Live::Called { .. } => self.end(),
            Live::Image { name, step } => self.line(Tone::Dim, &format!("image {name}: {step}")),
            Live::Broken { .. } => {}
        }
    }

    fn record(&mut self, sealed: &Sealed) {
        if sealed.record.number <= self.seen {
            return;
        }
        self.seen = sealed.record.number;
        self.end();
        let streamed = self.streaming.take() == Some(sealed.record.number);
        self.finish_line();
        for event in self.projector.push(&sealed.record) {
            self.event(&event, streamed);
        }
        if let Some(until) = sealed.record.head.due.deadline() {
            self.begin(format!("waiting until {}; Ctrl-C hands over", text::time_for_people(until)));
        } else if sealed.record.head.status == errand_core::Status::Running {
            self.begin("working".to_owned());
        }
    }

    fn event(&mut self, event: &PublicEvent, streamed: bool) {
        if self.audience == Audience::Machines {
            return print_json(event);
        }
        // An answer that people saw coming is not told twice.
        let streamed = streamed && matches!(event.kind, Kind::Text { .. } | Kind::Reasoning { .. });
        for (tone, line) in lines::lines(event, streamed) {
            self.line(tone, &line);
        }
    }

    fn attempt(&mut self, record: u64, attempt: u32) {
        if self.streaming.take().is_some() {
            self.finish_line();
            self.line(Tone::Notice, "(the answer broke off; what it said is void)");
        }
        if record > self.seen {
            let again = if attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
            self.begin(format!("thinking{again}"));
        }
    }

    fn delta(&mut self, record: u64, delta: &Delta) {
        if self.audience == Audience::Machines || record <= self.seen {
            return;
        }
        let (tone, piece) = match delta {
            Delta::Text(piece) => (Tone::Plain, piece),
            Delta::Reasoning(piece) => (Tone::Dim, piece),
            Delta::Call { name } => return self.begin(format!("writing a call of {}", text::one_line(name, 64))),
        };
        self.clear_moving();
        self.end();
        if self.streaming == Some(record) && self.last_kind_shown.is_some_and(|last| last != tone) {
            self.finish_line();
        }
        self.streaming = Some(record);
        self.last_kind_shown = Some(tone);
        let shown = text::neutral(piece);
        self.is_mid_line = !shown.ends_with('\n');
        self.write(&self.painted(tone, &shown));
    }

    /// A line of the program's own.
    pub(crate) fn line(&mut self, tone: Tone, line: &str) {
        if self.audience == Audience::Machines {
            return;
        }
        self.clear_moving();
        self.finish_line();
        self.write(&format!("{}\n", self.painted(tone, line)));
    }

    /// Text that a person answers to on the same line.
    pub(crate) fn prompt(&mut self, text: &str) {
        self.end();
        self.clear_moving();
        self.finish_line();
        self.write(&self.painted(Tone::Strong, text));
        self.is_mid_line = false;
    }

    fn begin(&mut self, activity: String) {
        self.activity = Some((activity, Instant::now()));
        self.said = None;
    }

    fn end(&mut self) {
        self.activity = None;
        self.clear_moving();
    }

    /// Nothing more follows.
    pub(crate) fn close(&mut self) {
        self.end();
        self.finish_line();
    }

    /// To be called a few times a second.
    pub(crate) fn tick(&mut self) {
        let Some((activity, since)) = self.activity.clone() else { return };
        let elapsed = since.elapsed();
        if self.audience == Audience::Machines || self.is_mid_line || elapsed < QUIET {
            return;
        }
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        if self.is_terminal {
            self.frame = (self.frame + 1) % FRAMES.len();
            let text = format!("{} {activity} {}", FRAMES[self.frame], text::duration(millis));
            self.write(&format!("\r{}\x1b[K", self.painted(Tone::Dim, &text)));
            self.is_moving_shown = true;
        } else if self.said.is_none_or(|said| said.elapsed() >= AGAIN) {
            self.said = Some(Instant::now());
            self.write(&format!("… {activity} ({})\n", text::duration(millis)));
        }
    }

    fn clear_moving(&mut self) {
        if std::mem::take(&mut self.is_moving_shown) {
            self.write("\r\x1b[K");
        }
    }

    fn finish_line(&mut self) {
        if std::mem::take(&mut self.is_mid_line) {
            self.write("\n");
        }
    }

    fn painted(&self, tone: Tone, text: &str) -> String {
        paint(tone, text, self.color)
    }

    fn write(&self, text: &str) {
        // Whoever looked on may have gone; the run goes on without them.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// The run that is shown.
    pub(crate) fn run(&self) -> RunId {
        self.run
    }
}

/// Text in the colour of its tone.
pub(crate) fn paint(tone: Tone, text: &str, color: bool) -> String {
    let code = match tone {
        Tone::Plain => return text.to_owned(),
        Tone::Dim => "2",
        Tone::Strong => "1",
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Notice => "33",
    };
    if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// One JSON object on a line of standard output.
pub(crate) fn print_json(value: &impl serde::Serialize) {
    if let Ok(line) = serde_json::to_string(value) {
        print(&line);
    }
}

/// Set once something could not be written to standard output although somebody reads it.
static OUTPUT_LOST: AtomicBool = AtomicBool::new(false);

/// A line of standard output. A reader that has gone is no error: there is nobody left to tell.
pub(crate) fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    if written.is_err_and(|error| error.kind() != std::io::ErrorKind::BrokenPipe) {
        OUTPUT_LOST.store(true, Ordering::Relaxed);
    }
}

/// True if output was lost that somebody waits for, on a full disk for one.
pub(crate) fn is_output_lost() -> bool {
    OUTPUT_LOST.load(Ordering::Relaxed)
}
