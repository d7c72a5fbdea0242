//! A blocking connection with its unused input.

use crate::error::PublishError;
use crate::sys;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Maximum number of bytes per read.
const READ_BYTES: usize = 16 * 1024;
/// Maximum length of an answer in bytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// One connection of a publisher.
pub(super) struct Line {
    stream: TcpStream,
    pub(super) bytes: Vec<u8>,
}

impl Line {
    pub(super) fn open(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { stream, bytes: Vec::new() })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads until `parse` finds a value in the input, and removes the bytes it used.
    pub(super) fn read_until<T>(
        &mut self,
        mut parse: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, PublishError>,
    ) -> Result<T, PublishError> {
        loop {
            if let Some((value, used)) = parse(&self.bytes)? {
                self.bytes.drain(..used);
                return Ok(value);
            }
            self.fill()?;
        }
    }

    /// Waits for more bytes.
    pub(super) fn fill(&mut self) -> Result<(), PublishError> {
        let held = self.make_room()?;
        let result = self.stream.read(&mut self.bytes[held..]);
        self.bytes.truncate(held + result.as_ref().copied().unwrap_or(0));
        match result? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    /// Reads the available bytes. Returns whether there were any.
    pub(super) fn fill_now(&mut self) -> Result<bool, PublishError> {
        let held = self.make_room()?;
        let result = sys::receive_now(&self.stream, &mut self.bytes[held..]);
        self.bytes.truncate(held + result.as_ref().copied().unwrap_or(0));
        match result {
            Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes room to read. Returns where it begins.
    fn make_room(&mut self) -> Result<usize, PublishError> {
        let held = self.bytes.len();
        if held > ANSWER_BYTES_MAX {
            return Err(PublishError::Refused("the answer is too long".to_owned()));
        }
        self.bytes.resize(held + READ_BYTES, 0);
        Ok(held)
    }
}
