//! Metrics. Each thread writes its own counters with relaxed stores, and a scrape sums them.

mod api;
mod counters;
mod latency;
mod process;
mod render;

pub use api::ApiCounters;
pub use counters::{BridgeCounters, Counter, DurationCounters, Notice, ShardCounters};
pub use latency::{DeliveryTimes, DeliveryWindows, Interval, Percentiles, WINDOWS};
pub use process::{Descriptors, Process};
pub use render::{Bound, Format, Metrics, PageTooLong, Sources};
