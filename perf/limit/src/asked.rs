//! How many publications were asked for: one thread counts, all others send.

use corecast::sys::EventFd;
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Publishers' bytes taken at once.
const READ_BYTES: usize = 4096;

/// A count that only grows, and those who wait for it to.
#[derive(Debug)]
pub(crate) struct Asked {
    count: AtomicUsize,
    wakes: Vec<EventFd>,
}

impl Asked {
    /// Nothing asked for yet. `wakes` are signalled whenever something is.
    pub(crate) fn new(wakes: Vec<EventFd>) -> Self {
        Self { count: AtomicUsize::new(0), wakes }
    }

    /// Publications asked for since the start.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Serves publishers, one after the other: each byte asks for one publication.
    ///
    /// # Errors
    /// The kernel's, when it can't accept.
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
        // The count before the wakes: whoever is woken sees it.
        self.count.fetch_add(count, Ordering::Release);
        self.wakes.iter().for_each(|wake| wake.signal());
    }
}
