//! Events for the application: kept until Redis has them, in order, and appended in batches to one
//! stream. Beside it stands the roster, from which another node reports the end of this one.

mod lost_nodes;
mod queue;
mod roster;
mod stream;
mod writer;

pub(crate) use lost_nodes::LostNodes;
pub(crate) use stream::EventStream;
pub(crate) use writer::EventWriter;
