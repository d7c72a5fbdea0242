//! The addresses of clients behind proxies. Only the proxies in `server.proxies` may name the
//! client of a connection: in a header of the PROXY protocol before the request, or in a header of
//! the request. Pure.

mod forwarded;
mod header;
mod networks;

pub use forwarded::{First, first_client, forwarded_client};
pub use header::{Header, begins_with_header, read_header};
pub use networks::{Peer, Proxies};
