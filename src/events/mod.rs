//! Events for the application. They are kept in order until Redis has them, and appended in batches
//! to one stream. Redis also has the roster, from which another node can report the end of this
//! one.

mod lost_nodes;
mod queue;
mod roster;
mod stream;
mod writer;

pub(crate) use lost_nodes::LostNodes;
pub(crate) use stream::EventStream;
pub(crate) use writer::EventWriter;
