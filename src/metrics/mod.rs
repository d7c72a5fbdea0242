//! What is counted. Each thread writes cells of its own with relaxed stores; a scrape sums them.

mod cells;

pub use cells::{Cell, DurationCells, ShardCells};
