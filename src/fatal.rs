//! Lines about the end of the process: errors at the start, panics, and threads that failed. They
//! are written at once, because the thread of the log might not get to it. They have the format of
//! the log, so that a program can read every line of the output.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write as _};
use std::panic::{self, PanicHookInfo};

use serde::Serialize;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use crate::settings::LogFormat;

/// A line as the log writes it in JSON.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'static str,
    fields: Fields<'a>,
}

#[derive(Serialize)]
struct Fields<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backtrace: Option<String>,
}

/// Writes an error on standard error.
pub fn write(format: LogFormat, message: &str) {
    match format {
        LogFormat::Text => write_line(&format!("corecast: {message}\n")),
        LogFormat::Json => {
            write_line(&json(Fields { message, thread: None, backtrace: None }));
        }
    }
}

/// Makes the messages of panics lines of JSON, if that is the format of the log.
pub fn report_panics(format: LogFormat) {
    if format == LogFormat::Json {
        panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
            let trace = Backtrace::capture();
            let backtrace =
                (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
            let thread = std::thread::current();
            let message = panic_message(info);
            write_line(&json(Fields { message: &message, thread: thread.name(), backtrace }));
        }));
    }
}

fn panic_message(info: &PanicHookInfo<'_>) -> String {
    let text = info.payload_as_str().unwrap_or("a value that is no text");
    match info.location() {
        Some(location) => format!("panicked at {location}: {text}"),
        None => format!("panicked: {text}"),
    }
}

fn json(fields: Fields<'_>) -> String {
    let mut timestamp = String::new();
    // Writing to a text can't fail.
    SystemTime.format_time(&mut Writer::new(&mut timestamp)).unwrap_or_default();
    let line = Line { timestamp, level: "ERROR", fields };
    serde_json::to_string(&line).unwrap_or_default() + "\n"
}

/// Writes a line in one call, so that no other line comes between its parts.
fn write_line(line: &str) {
    // There is no other place to report that standard error is closed.
    io::stderr().write_all(line.as_bytes()).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_object_like_those_of_the_log() {
        let fields = Fields {
            message: "can't \"listen\"\n on it",
            thread: Some("shard-0"),
            backtrace: Some("0: main\n1: start\n".to_owned()),
        };
        let line = json(fields);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["level"], "ERROR");
        assert_eq!(value["fields"]["message"], "can't \"listen\"\n on it");
        assert_eq!(value["fields"]["thread"], "shard-0");
        assert!(value["timestamp"].as_str().is_some_and(|time| time.starts_with("20")), "{line}");
    }
}
