//! Collections whose operations touch only a small part of their content, so that no operation
//! stalls a turn.

mod bitmap;
mod queue;
mod table;

pub use bitmap::Bitmap;
pub use queue::Queue;
pub use table::{Index, Named, Table};
