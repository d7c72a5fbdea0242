//! Where and when a measurement was made.

use std::fs;
use std::thread;
use std::time::SystemTime;

/// Returns the circumstances of a measurement for its report, as names and values.
pub(crate) fn facts() -> Vec<(String, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (cpuinfo, meminfo) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let model = field(&cpuinfo, "model name").unwrap_or("unknown processor");
    let kilobytes = field(&meminfo, "MemTotal").and_then(|value| value.strip_suffix(" kB"));
    let memory = kilobytes.and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0);
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let facts = [
        ("date", humantime::format_rfc3339_seconds(SystemTime::now()).to_string()),
        ("machine", format!("{cores} x {model}, {:.1} GiB", memory / f64::from(1 << 20))),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("generator version", env!("CARGO_PKG_VERSION").to_owned()),
        ("command", command()),
    ];
    facts.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// Returns the command line, without the path of the program.
fn command() -> String {
    let arguments = std::env::args().skip(1);
    std::iter::once("corecast-bench".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// Returns the value of `name` in a file of lines `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_those_of_this_host() {
        let facts = facts();
        let value = |wanted: &str| {
            let found = facts.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone()).unwrap()
        };
        assert!(value("date").ends_with('Z'));
        assert!(value("machine").ends_with("GiB"));
        assert!(!value("kernel").is_empty());
        assert_eq!(field("a : 1\nbc: 2 kB\n", "bc"), Some("2 kB"));
    }
}
