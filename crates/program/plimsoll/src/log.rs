//! The program's own log: text for people, or lines of JSON as upstream's programs write them
//! (component-base/logs/json).

use std::fmt::{self, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// An object a line.
    Json,
}

impl Format {
    /// What `logging.format` of a KubeletConfiguration means, which was checked before.
    pub(crate) fn of(word: &str) -> Self {
        if word == "json" { Self::Json } else { Self::Text }
    }
}

/// Who reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Somebody at a terminal, who wants to know what goes wrong.
    Terminal,
    /// A file or a supervisor.
    File,
}

/// Begins to write the log. `PLIMSOLL_LOG` says how much.
pub(crate) fn begin(reader: Reader, format: Format) {
    let usual = if reader == Reader::Terminal { "warn" } else { "info" };
    let filter = EnvFilter::try_from_env("PLIMSOLL_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        Format::Text => log.with_ansi(reader == Reader::Terminal).init(),
        Format::Json => log.event_format(Lines).init(),
    }
}

/// Writes events as upstream's JSON: milliseconds, where, what, how detailed, and the fields.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        writer.write_str(&line(since.as_secs_f64() * 1000.0, event))?;
        writer.write_char('\n')
    }
}

fn line(milliseconds: f64, event: &Event<'_>) -> String {
    let metadata = event.metadata();
    let mut fields = Fields::default();
    event.record(&mut fields);
    let mut line = format!("{{\"ts\":{}", json!(milliseconds));
    let own = metadata.file().map(str::to_owned).zip(metadata.line().map(u64::from));
    if let Some((file, number)) = own.or(fields.file.zip(fields.line)) {
        add(&mut line, "caller", &json!(format!("{}:{number}", short(&file))));
    }
    add(&mut line, "msg", &json!(fields.message));
    // Errors have no verbosity.
    if let Some(verbosity) = verbosity(*metadata.level()) {
        add(&mut line, "v", &json!(verbosity));
    }
    for (name, value) in &fields.others {
        add(&mut line, name, value);
    }
    line.push('}');
    line
}

fn add(line: &mut String, name: &str, value: &Value) {
    // Writing to a text cannot fail.
    let _ = write!(line, ",{}:{value}", json!(name));
}

/// The last folder and the name of a file.
fn short(file: &str) -> String {
    let path = Path::new(file);
    let last = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    format!("{}/{}", last(path.parent().and_then(Path::file_name)), last(path.file_name()))
}

/// How detailed an event is by upstream's measure.
fn verbosity(level: Level) -> Option<u8> {
    match level {
        Level::ERROR => None,
        Level::WARN | Level::INFO => Some(0),
        Level::DEBUG => Some(4),
        Level::TRACE => Some(6),
    }
}

/// What an event says.
#[derive(Default)]
struct Fields {
    message: String,
    /// Where it was said, by libraries that do not say it themselves.
    file: Option<String>,
    line: Option<u64>,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn note(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("log.file", Value::String(file)) => self.file = Some(file),
            ("log.line", number) => self.line = number.as_u64(),
            ("log.target" | "log.module_path", _) => {}
            ("error", value) => self.others.push(("err", value)),
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.note(field, json!(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.note(field, json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.note(field, json!(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.note(field, json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.note(field, json!(value));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_upstreams() {
        let kept = Kept::default();
        let writer = kept.clone();
        let log = tracing_subscriber::fmt().event_format(Lines).with_max_level(Level::DEBUG);
        let log = log.with_writer(move || writer.clone()).finish();
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        tracing::subscriber::with_default(log, || {
            tracing::info!(pod = "ns/\"a\"", count = 3, ready = true, "started {}", "it");
            // As libraries of the older interface have it.
            tracing::debug!({ log.target = "a", log.file = "/x/src/log.rs", log.line = 7 }, "detail");
            tracing::error!(error = %std::io::Error::other("gone"), "failed\nto read");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let rest = |line: &str| {
            let parsed: Value = serde_json::from_str(line).unwrap();
            assert!(parsed["ts"].as_f64().unwrap() >= before as f64, "{line}");
            assert!(parsed["caller"].as_str().unwrap().starts_with("src/log.rs:"), "{line}");
            line[line.find("\"msg\"").unwrap()..].to_owned()
        };
        assert_eq!(
            lines.iter().map(|line| rest(line)).collect::<Vec<_>>(),
            [
                "\"msg\":\"started it\",\"v\":0,\"pod\":\"ns/\\\"a\\\"\",\"count\":3,\"ready\":true}",
                "\"msg\":\"detail\",\"v\":4}",
                "\"msg\":\"failed\\nto read\",\"err\":\"gone\"}",
            ]
        );
    }
}
