//! Runs the generator as a user would, and reads its report.

use serde_json::Value;
use std::process::Command;

/// Returns exit code and report of `corecast-bench` with `flags`, which are split at spaces.
pub(crate) fn bench(flags: &str) -> (i32, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_corecast-bench"))
        .args(flags.split_ascii_whitespace())
        .arg("--json")
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        Value::from(format!("{error}: {stderr}"))
    });
    (output.status.code().unwrap(), report)
}
