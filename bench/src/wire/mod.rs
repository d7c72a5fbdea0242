//! The client side of a WebSocket, as bytes: the upgrade, frames, and the messages of each kind of
//! server. This module is pure: it takes bytes and returns values.

pub(crate) mod frame;
pub(crate) mod mark;
pub(crate) mod script;
pub(crate) mod upgrade;
