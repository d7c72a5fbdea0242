//! The addresses to listen on, as main reserves them before other threads start.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::common::Error;
use crate::api::ApiListener;
use crate::limits::{PROBE_PATIENCE, PROBE_PAUSE};
use crate::settings::{ListenAddress, Server};
use crate::sys::{self, Claim, SocketAccess, SocketFile, UnixListener};

/// The addresses for clients.
pub(super) struct Listening {
    /// All addresses. A port of 0 is replaced with the port that the kernel chose.
    pub(super) addresses: Vec<ListenAddress>,
    /// The Unix sockets, which all shards use.
    pub(super) unix: Vec<UnixListener>,
    /// The other addresses, until the shards listen on them.
    pub(super) claims: Vec<Claim>,
    /// The files of the Unix sockets, until the server ends.
    pub(super) files: Vec<SocketFile>,
}

impl Listening {
    /// Listens on the Unix sockets, and claims the other addresses. Every thread's own table must
    /// keep the Unix sockets, so only descriptors for all threads may exist before.
    ///
    /// # Errors
    /// [`Error::Listen`] for the first address that fails.
    pub(super) fn new(server: &Server) -> Result<Listening, Error> {
        let (mut unix, mut files) = (Vec::new(), Vec::new());
        for address in &server.listen {
            if let ListenAddress::Unix(path) = address {
                let listen = || SocketFile::listen(path, &access(server));
                let (listener, file) = patiently(address, listen)?;
                unix.push(UnixListener::share(listener));
                files.push(file);
            }
        }
        let (mut addresses, mut claims) = (Vec::new(), Vec::new());
        for address in &server.listen {
            match address {
                ListenAddress::Unix(_) => addresses.push(address.clone()),
                ListenAddress::Tcp(socket) => {
                    let (claim, socket) = patiently(address, || claim(*socket))?;
                    addresses.push(ListenAddress::Tcp(socket));
                    claims.push(claim);
                }
            }
        }
        Ok(Listening { addresses, unix, claims, files })
    }
}

/// The listener of the API.
pub(super) struct ApiListening {
    pub(super) listener: ApiListener,
    /// Its address, with the port that the kernel chose.
    pub(super) address: ListenAddress,
    /// The file of a Unix socket, until the server ends.
    pub(super) file: Option<SocketFile>,
}

impl ApiListening {
    /// Listens on the address of the API.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub(super) fn new(server: &Server) -> Result<ApiListening, Error> {
        let address = &server.api_listen;
        let failed = |source| Error::Listen { address: address.clone(), source };
        match address {
            ListenAddress::Tcp(socket) => {
                let listener = TcpListener::bind(socket).map_err(failed)?;
                let address = ListenAddress::Tcp(listener.local_addr().map_err(failed)?);
                Ok(ApiListening { listener: ApiListener::Tcp(listener), address, file: None })
            }
            ListenAddress::Unix(path) => {
                let listen = || SocketFile::listen(path, &access(server));
                let (listener, file) = patiently(address, listen)?;
                let listener = ApiListener::Unix(listener.into());
                Ok(ApiListening { listener, address: address.clone(), file: Some(file) })
            }
        }
    }
}

fn access(server: &Server) -> SocketAccess {
    SocketAccess { mode: server.unix_mode, group: server.unix_group.clone() }
}

/// Claims an address until the shards listen on it, and determines the port if it is 0. Shards
/// could not detect another server on the address, because they listen with SO_REUSEPORT.
fn claim(address: SocketAddr) -> io::Result<(Claim, SocketAddr)> {
    let claim = Claim::new(address).map_err(|error| error.source)?;
    let address = claim.address()?;
    Ok((claim, address))
}

/// Tries for a while to get an address that is in use.
fn patiently<T>(address: &ListenAddress, listen: impl Fn() -> io::Result<T>) -> Result<T, Error> {
    let limit = sys::now().after(PROBE_PATIENCE);
    loop {
        match listen() {
            // After a server is killed, the kernel closes its ring, and with it the listeners, a
            // moment later than the process itself.
            Err(source) if source.kind() == io::ErrorKind::AddrInUse && sys::now() < limit => {
                std::thread::sleep(PROBE_PAUSE);
            }
            Err(source) => return Err(Error::Listen { address: address.clone(), source }),
            Ok(listening) => return Ok(listening),
        }
    }
}
