//! The permissions of clients. Every decision that depends on the identity of a client is made
//! here, once, when it connects. No other module reads `[auth]` or the `allow_…` options of
//! namespaces.

mod grant;
mod permissions;

pub use grant::{Grant, Wish};
pub use permissions::{Permissions, Role};
