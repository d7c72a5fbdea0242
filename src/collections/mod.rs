//! Collections whose operations never touch more than a small part of what they hold, so that none
//! of them stalls a turn.

mod bitmap;
mod queue;
mod table;

pub use bitmap::Bitmap;
pub use queue::Queue;
pub use table::{Index, Named, Table};
