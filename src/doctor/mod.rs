//! Checks whether this host can hold a number of connections. It turns readings of `/proc` into
//! findings, each with a command that fixes it. `corecast doctor` prints all of them, and `serve`
//! logs the first one that limits it.

mod findings;
mod keys;
mod proc;
mod readings;

pub use findings::{Finding, Verdict, findings};
pub use keys::{KEYS, Key, Rule, SIZES};
pub use proc::{read, read_without_probes};
pub use readings::{Kernel, Readings, Ring, SettingsAccess, Wanted};
