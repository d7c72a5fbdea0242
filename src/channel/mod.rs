//! Channel names, namespaces with their options, publications, and requests to publish.

mod command;
mod glob;
mod name;
mod namespace;
mod payload;
mod publication;

pub use command::{Payload, PublishCommand, Unfit};
pub use glob::{Glob, GlobError};
pub use name::ChannelName;
pub use namespace::{AppEventFilter, ChannelRegex, Namespace, Namespaces, SlowPolicy};
pub use payload::{DataType, check_payload, payload_of_json};
pub use publication::{ChannelView, HistoryUse, Publication, Publisher, Tags, recovery_bytes};
