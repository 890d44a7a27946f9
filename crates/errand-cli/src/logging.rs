//! Structured logs to standard error: what the engine warns of, and with `-v` what it does. JSON when nobody watches.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use tracing::field::{Field, Visit};
use tracing::{Event, Id, Level, Metadata, Subscriber, span};

/// Begins to log: warnings always, more with each `-v`.
pub(crate) fn start(verbose: u8) {
    let level = match verbose {
        0 => Level::WARN,
        1 => Level::INFO,
        _ => Level::DEBUG,
    };
    let log = Log { level, is_json: !std::io::stderr().is_terminal() };
    // Only this binary sets it, and only here.
    let _ = tracing::subscriber::set_global_default(log);
}

/// A line per event. Spans are not kept: run and step ids are fields of the events themselves.
struct Log {
    level: Level,
    is_json: bool,
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What libraries below say is theirs; what the engine says names runs and codes.
        *metadata.level() <= self.level && metadata.target().starts_with("errand")
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.level.into())
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let line = if self.is_json {
            let mut object = fields.values;
            object.insert("level".to_owned(), level.to_string().to_lowercase().into());
            object.insert("target".to_owned(), target.into());
            serde_json::Value::Object(object).to_string()
        } else {
            fields.for_people(&level.to_string().to_lowercase())
        };
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Fields {
    values: serde_json::Map<String, serde_json::Value>,
}

impl Fields {
    fn for_people(&self, level: &str) -> String {
        let message = self.values.get("message").and_then(serde_json::Value::as_str).unwrap_or_default();
        let mut line = format!("{level}: {}", crate::text::one_line(message, 500));
        for (name, value) in self.values.iter().filter(|(name, _)| *name != "message") {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let _ = write!(line, " {name}={}", crate::text::one_line(&value, 300));
        }
        line
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.values.insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.values.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.values.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.values.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.values.insert(field.name().to_owned(), value.into());
    }
}
