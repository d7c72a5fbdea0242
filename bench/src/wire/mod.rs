//! The client's half of a WebSocket, as bytes: the upgrade, frames, and what each kind of server
//! says in them. Pure: bytes in, values out.

pub(crate) mod frame;
pub(crate) mod mark;
pub(crate) mod script;
pub(crate) mod upgrade;
