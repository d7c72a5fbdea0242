//! A minimal HTTP/1.1 client for Corecast's API, with one request at a time on a persistent
//! connection. Its errors say whether the request may have arrived.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The API key that the nodes accept.
pub(crate) const API_KEY: &str = "checker";

/// Timeout of a connection.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Maximum number of headers in a response.
const HEADERS_MAX: usize = 64;

/// Maximum size of a response: a channel's whole history.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// The reason why there is no response.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing was sent.
    Unsent(String),
    /// The request was sent at least in part, and may have arrived.
    Sent(String),
}

/// A connection that is opened on demand.
#[derive(Debug)]
pub(crate) struct Http {
    address: SocketAddr,
    socket: Option<TcpStream>,
}

impl Http {
    /// Creates a connection to the API at `address`.
    pub(crate) fn new(address: SocketAddr) -> Http {
        Http { address, socket: None }
    }

    /// Posts `body` and returns status and body.
    ///
    /// # Errors
    /// If there is no valid response within `most`.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        body: &str,
        most: Duration,
    ) -> Result<(u16, Vec<u8>), Failure> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nX-API-Key: {API_KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.exchange(&format!("{head}{body}"), most).await
    }

    /// Gets `path`.
    ///
    /// # Errors
    /// As [`Http::post`].
    pub(crate) async fn get(
        &mut self,
        path: &str,
        most: Duration,
    ) -> Result<(u16, Vec<u8>), Failure> {
        let host = self.address;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {API_KEY}\r\n\r\n");
        self.exchange(&request, most).await
    }

    async fn exchange(&mut self, request: &str, most: Duration) -> Result<(u16, Vec<u8>), Failure> {
        let mut socket = match self.socket.take().filter(is_open) {
            Some(socket) => socket,
            None => match timeout(CONNECT_MAX, TcpStream::connect(self.address)).await {
                Ok(Ok(socket)) => socket,
                Ok(Err(error)) => return Err(Failure::Unsent(error.to_string())),
                Err(_) => return Err(Failure::Unsent("no connection in time".to_owned())),
            },
        };
        let answered = timeout(most, async {
            socket.write_all(request.as_bytes()).await?;
            read(&mut socket).await
        });
        match answered.await {
            Ok(Ok((status, body))) => {
                self.socket = Some(socket);
                Ok((status, body))
            }
            Ok(Err(error)) => Err(Failure::Sent(error.to_string())),
            Err(_) => Err(Failure::Sent(format!("no answer within {most:?}"))),
        }
    }
}

/// Whether an idle connection is still usable. Then there is nothing to read.
fn is_open(socket: &TcpStream) -> bool {
    let read = socket.try_read(&mut [0]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Reads one response that has a length.
async fn read(socket: &mut TcpStream) -> std::io::Result<(u16, Vec<u8>)> {
    let mut bytes = Vec::with_capacity(4096);
    loop {
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::Error::other("the connection ended before the response"));
        }
        if let Some((status, start, length)) = head(&bytes)? {
            let read = bytes.len() - start;
            bytes.drain(..start);
            if length > RESPONSE_BYTES_MAX || read > length {
                return Err(std::io::Error::other(format!("a response of {length} bytes")));
            }
            bytes.resize(length, 0);
            socket.read_exact(&mut bytes[read..]).await?;
            return Ok((status, bytes));
        }
    }
}

/// Returns status, start and length of the body, if the head is complete.
fn head(bytes: &[u8]) -> std::io::Result<Option<(u16, usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(std::io::Error::other)?;
    let httparse::Status::Complete(start) = parsed else { return Ok(None) };
    let status = response.code.unwrap_or(0);
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    let length = length.ok_or_else(|| std::io::Error::other("a response without a length"))?;
    Ok(Some((status, start, length)))
}
