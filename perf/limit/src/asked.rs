//! The number of requested publications. One thread counts, and all others send.

use corecast::sys::EventFd;
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Maximum number of a publisher's bytes per read.
const READ_BYTES: usize = 4096;

/// A count that only grows, with the wakes of threads that wait for it.
#[derive(Debug)]
pub(crate) struct Asked {
    count: AtomicUsize,
    wakes: Vec<EventFd>,
}

impl Asked {
    /// Creates a count of zero. `wakes` are signalled whenever it grows.
    pub(crate) fn new(wakes: Vec<EventFd>) -> Self {
        Self { count: AtomicUsize::new(0), wakes }
    }

    /// Returns the number of publications requested since the start.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Serves publishers, one after another. Each byte requests one publication.
    ///
    /// # Errors
    /// If it can't accept a connection.
    pub(crate) fn serve(&self, triggers: &TcpListener) -> io::Result<()> {
        loop {
            let (stream, _) = triggers.accept()?;
            if let Err(error) = self.serve_one(stream) {
                eprintln!("corecast-limit: the publisher is gone: {error}");
            }
        }
    }

    fn serve_one(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                count => self.ask(count),
            }
        }
    }

    fn ask(&self, count: usize) {
        // Count before signalling, so that a woken thread sees the new count.
        self.count.fetch_add(count, Ordering::Release);
        self.wakes.iter().for_each(|wake| wake.signal());
    }
}
