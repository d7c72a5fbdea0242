//! The server of one thread: it accepts, answers, and sends the same frame to all clients. It makes
//! the same system calls as a shard of Corecast, and does nothing else.

use crate::asked::Asked;
use crate::canned::{Frames, Head, UPGRADED};
use corecast::ids::{Generation, Slot};
use corecast::kernel::ConnectionKey;
use corecast::kernel::{Ready, Received, Release, Socket, Write, Wrote};
use corecast::limits::{RECEIVE_BYTES_MAX, SWEEP_SENDS_MAX};
use corecast::sys::{Accepted, Driver, Listener};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A client, from its accept until its watch has ended. Then its place is reused.
#[derive(Clone, Copy, Debug)]
struct Client {
    socket: Socket,
    generation: Generation,
    state: State,
}

/// Memory of a connection in this program. A ceiling must not use more than the measured server.
pub(crate) const CLIENT_BYTES: usize = size_of::<Client>();

const _: () = assert!(CLIENT_BYTES == 12, "socket, generation and state");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Vacant,
    Handshaking(Head),
    Open,
    Released,
}

/// The state of one thread.
pub(crate) struct Server<D> {
    io: D,
    listener: Listener,
    asked: Arc<Asked>,
    /// Number of publications of `asked` that this thread has sent.
    sent: usize,
    frames: Frames,
    clients: Vec<Client>,
    vacant: Vec<u32>,
    /// Clients whose request head is complete but not answered.
    answers: Vec<usize>,
    buffer: Vec<u8>,
    results: Vec<Wrote>,
    /// Whether a client had to stay in the listener's queue, which is reported once.
    exhausted: bool,
}

impl<D: Driver> Server<D> {
    /// Creates a server on `listener` that sends frames on request.
    pub(crate) fn new(io: D, listener: Listener, asked: Arc<Asked>, frames: Frames) -> Self {
        let mut server = Self {
            io,
            sent: asked.count(),
            asked,
            frames,
            clients: Vec::new(),
            vacant: Vec::new(),
            answers: Vec::new(),
            buffer: vec![0; RECEIVE_BYTES_MAX],
            results: Vec::new(),
            exhausted: false,
            listener,
        };
        server.io.watch_listener(&server.listener);
        server
    }

    /// Serves for ever.
    ///
    /// # Errors
    /// If it can't sleep.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut news = Vec::new();
        loop {
            self.io.poll(&mut news);
            // A shard pays for the driver's tick as well. There is nothing to do in it here.
            self.io.take_tick();
            let incoming = self.io.take_incoming();
            if news.is_empty() && !incoming && self.due() == 0 {
                // `asked` grows before the wake is signalled, so no publication is missed while
                // sleeping.
                self.io.wait();
                continue;
            }
            if incoming {
                self.accept();
            }
            for ready in news.drain(..) {
                self.on_ready(ready);
            }
            self.answer();
            self.broadcast();
        }
    }

    /// Returns the number of requested publications that have not been sent.
    fn due(&self) -> usize {
        self.asked.count().wrapping_sub(self.sent)
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Accepted::Socket(socket, _) => self.admit(socket),
                Accepted::Aborted => {}
                Accepted::Nobody => return,
                Accepted::Exhausted(error) => return self.on_exhausted(&error),
            }
        }
    }

    fn admit(&mut self, socket: OwnedFd) {
        let socket = self.io.adopt(socket);
        let state = State::Handshaking(Head::default());
        let index = match self.vacant.pop() {
            Some(index) => index as usize,
            None => {
                let generation = Generation::new(0);
                self.clients.push(Client { socket, generation, state });
                self.clients.len() - 1
            }
        };
        let client = &mut self.clients[index];
        (client.socket, client.state) = (socket, state);
        self.io.watch(socket, self.key(index));
    }

    /// Leaves the client in the queue. It is accepted together with the next one.
    fn on_exhausted(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.exhausted, true) {
            let held = self.clients.len() - self.vacant.len();
            eprintln!(
                "corecast-limit: a thread with {held} connections can't accept: {error}. More \
                 --threads share the connections out, or raise the limit on open files"
            );
        }
    }

    fn on_ready(&mut self, ready: Ready) {
        let index = ready.key.slot.index();
        let client = self.clients[index];
        if ready.key != self.key(index) || client.state == State::Vacant {
            return;
        }
        if client.state == State::Released {
            if ready.ended {
                self.retire(index);
            }
            return;
        }
        if ready.readable {
            self.read(index, ready.hangup);
        }
        if ready.ended && self.clients[index].state != State::Released {
            self.io.watch(client.socket, ready.key);
        }
    }

    fn retire(&mut self, index: usize) {
        let client = &mut self.clients[index];
        self.io.close(client.socket);
        client.state = State::Vacant;
        client.generation = client.generation.next();
        self.vacant.push(index as u32);
    }

    /// Reads until the socket is empty. Bytes after the head are dropped.
    fn read(&mut self, index: usize, hangup: bool) {
        let client = &mut self.clients[index];
        loop {
            match self.io.receive(client.socket, &mut self.buffer) {
                Received::Bytes(count) => {
                    if let State::Handshaking(head) = &mut client.state
                        && head.take(&self.buffer[..count])
                    {
                        client.state = State::Open;
                        self.answers.push(index);
                    }
                    if count < self.buffer.len() && !hangup {
                        return;
                    }
                }
                Received::Nothing => return,
                Received::End | Received::Gone => return self.release(index),
            }
        }
    }

    fn release(&mut self, index: usize) {
        let key = self.key(index);
        let client = &mut self.clients[index];
        if client.state != State::Released {
            client.state = State::Released;
            self.io.release(client.socket, key, Release::Graceful);
        }
    }

    fn answer(&mut self) {
        let mut answers = std::mem::take(&mut self.answers);
        for chunk in answers.chunks(SWEEP_SENDS_MAX) {
            self.send(chunk, UPGRADED);
        }
        answers.clear();
        self.answers = answers;
    }

    /// Sends due publications, as far as they fit into one write, to all open clients.
    fn broadcast(&mut self) {
        let count = self.due().min(self.frames.count_max());
        if count == 0 {
            return;
        }
        self.sent = self.sent.wrapping_add(count);
        let frames = std::mem::take(&mut self.frames);
        let mut chunk = Vec::with_capacity(SWEEP_SENDS_MAX);
        for index in 0..self.clients.len() {
            if self.clients[index].state == State::Open {
                chunk.push(index);
            }
            if chunk.len() == SWEEP_SENDS_MAX {
                self.send(&chunk, frames.bytes(count));
                chunk.clear();
            }
        }
        self.send(&chunk, frames.bytes(count));
        self.frames = frames;
    }

    /// Sends `bytes` to each client of `chunk`, in one batch. A client that does not accept all of
    /// them is closed, because the ceiling is only valid while readers keep up.
    fn send(&mut self, chunk: &[usize], bytes: &[u8]) {
        let sockets = chunk.iter().map(|&index| self.clients[index].socket);
        let writes: Vec<Write<'_>> = sockets.map(|socket| Write { socket, bytes }).collect();
        self.results.clear();
        self.io.send(&writes, &mut self.results);
        let whole = Wrote::Bytes(bytes.len());
        if self.results.iter().any(|result| *result != whole) {
            let results = std::mem::take(&mut self.results);
            let stuck = chunk.iter().zip(&results).filter(|(_, result)| **result != whole);
            stuck.for_each(|(index, _)| self.release(*index));
        }
    }

    fn key(&self, index: usize) -> ConnectionKey {
        ConnectionKey { slot: Slot::new(index), generation: self.clients[index].generation }
    }
}
