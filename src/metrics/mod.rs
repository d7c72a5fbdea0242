//! What is counted. Each thread writes counters of its own with relaxed stores; a scrape sums them.

mod counters;
mod process;
mod render;

pub use counters::{BridgeCounters, Counter, DurationCounters, Notice, ShardCounters};
pub use process::Process;
pub use render::{Format, Metrics};
