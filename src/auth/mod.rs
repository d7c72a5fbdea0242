//! What clients may do. Everything that depends on who a client is gets decided here, once, when
//! it connects; nothing else looks at `[auth]` or at a namespace's `allow_…`.

mod grant;
mod permissions;

pub use grant::{Grant, Wish};
pub use permissions::{Permissions, Role};
