//! Addresses whose ports stay free for whoever is to listen there: a socket has the name and does
//! not listen, so that the kernel gives the port to nobody else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use tokio::net::TcpSocket;

/// What is held, until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    held: Vec<TcpSocket>,
}

impl Ports {
    /// An address with a port that nobody has, at the loopback address of this number.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn take(&mut self, host: u8) -> Result<SocketAddr> {
        let socket = TcpSocket::new_v4().context("can't make a socket")?;
        socket.bind(SocketAddr::new(address(host), 0)).context("no port is free")?;
        // Only now, or the kernel would choose one that others hold in the same way.
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        let taken = socket.local_addr()?;
        self.held.push(socket);
        Ok(taken)
    }
}

/// An address on the loopback network that belongs to this process alone, as far as ports of other
/// processes' outgoing connections go: those are on 127.0.0.1.
fn address(host: u8) -> IpAddr {
    let process = std::process::id();
    let (high, low) = (64 + (process / 256 % 64) as u8, (process % 256) as u8);
    IpAddr::V4(Ipv4Addr::new(127, high, low, host))
}
