//! A channel's name.

use std::fmt;
use std::sync::Arc;

use crate::limits::CHANNEL_BYTES_MAX;

/// The name of a channel. Clones share one allocation.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// Maximum length of a name in bytes that any setting allows.
    pub const BYTES_MAX: usize = CHANNEL_BYTES_MAX;

    /// Creates the name `text`, unchecked. [`super::Namespaces::resolve`] checks names of clients.
    pub fn new(text: &str) -> ChannelName {
        ChannelName(Arc::from(text))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
