//! Metrics. Each thread writes its own counters with relaxed stores, and a scrape sums them.

mod counters;
mod process;
mod render;

pub use counters::{BridgeCounters, Counter, DurationCounters, Notice, ShardCounters};
pub use process::Process;
pub use render::{Format, Metrics};
