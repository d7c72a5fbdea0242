//! What of this host would stop a number of connections: readings of `/proc` go in, findings come
//! out, each with the command that mends it. `corecast doctor` prints them, and `serve` logs the
//! first one that would stop it.

mod findings;
mod keys;
mod proc;
mod readings;

pub use findings::{Finding, Verdict, findings};
pub use keys::{KEYS, Key, Rule, SIZES};
pub use proc::{read, read_without_probes};
pub use readings::{Kernel, Readings, Ring, Wanted};
