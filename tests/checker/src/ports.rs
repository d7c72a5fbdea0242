//! Reserved ports. A socket is bound to each of them without listening, so that the kernel gives
//! the port to no other process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use tokio::net::TcpSocket;

/// The reserved ports. Dropping this frees them.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    held: Vec<TcpSocket>,
}

impl Ports {
    /// Returns a free port at the loopback address with this number.
    ///
    /// # Errors
    /// If a system call fails.
    pub(crate) fn take(&mut self, host: u8) -> Result<SocketAddr> {
        let socket = TcpSocket::new_v4().context("can't make a socket")?;
        socket.bind(SocketAddr::new(address(host), 0)).context("no port is free")?;
        // Set these options after the bind, or the kernel may choose a port that others reserve in
        // the same way.
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        let taken = socket.local_addr()?;
        self.held.push(socket);
        Ok(taken)
    }
}

/// Returns a loopback address of this process. Outgoing connections of other processes use ports on
/// 127.0.0.1, so they can't take ports here.
fn address(host: u8) -> IpAddr {
    let process = std::process::id();
    let (high, low) = (64 + (process / 256 % 64) as u8, (process % 256) as u8);
    IpAddr::V4(Ipv4Addr::new(127, high, low, host))
}
