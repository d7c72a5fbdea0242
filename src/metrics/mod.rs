//! What is counted. Each thread writes cells of its own with relaxed stores; a scrape sums them.

mod cells;
mod process;
mod render;

pub use cells::{BridgeCells, Cell, DurationCells, Notice, ShardCells};
pub use process::Process;
pub use render::{Format, Metrics};
