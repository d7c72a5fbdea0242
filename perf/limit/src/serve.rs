//! The server: accept, answer, send the same frame to everyone. It does with the kernel what
//! Corecast's shard does and nothing else.

use crate::canned::{Head, UPGRADED};
use crate::sys;
use corecast::ids::{Generation, Slot};
use corecast::limits::{RECEIVE_BYTES_MAX, SWEEP_SENDS_MAX};
use corecast::shard::{Ready, Received, Release, Socket, Token, Write, Wrote};
use corecast::sys::{Accepted, Driver, Listener};
use std::io;

/// The publisher's slot; clients have those after it.
const TRIGGER: usize = 0;
const CLIENTS: usize = 1;

/// A client, from its accept until its watch has ended.
#[derive(Clone, Copy, Debug)]
struct Client {
    socket: Socket,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Handshaking(Head),
    Open,
    Released,
}

/// Everything there is.
pub(crate) struct Server<D> {
    io: D,
    listener: Listener,
    triggers: Listener,
    trigger: Option<Socket>,
    frame: Vec<u8>,
    clients: Vec<Option<Client>>,
    generations: Vec<u32>,
    free: Vec<usize>,
    /// Clients whose request head has just become complete.
    answers: Vec<usize>,
    /// Publications asked for and not yet sent.
    due: usize,
    buffer: Vec<u8>,
    results: Vec<Wrote>,
}

impl<D: Driver> Server<D> {
    /// A server on `listener` that sends `frame` for each byte that comes through `triggers`.
    pub(crate) fn new(io: D, listener: Listener, triggers: Listener, frame: Vec<u8>) -> Self {
        let mut server = Self {
            io,
            trigger: None,
            frame,
            clients: Vec::new(),
            generations: Vec::new(),
            free: Vec::new(),
            answers: Vec::new(),
            due: 0,
            buffer: vec![0; RECEIVE_BYTES_MAX],
            results: Vec::new(),
            listener,
            triggers,
        };
        server.io.watch_listener(server.listener.number());
        server.io.watch_listener(server.triggers.number());
        server
    }

    /// Serves for ever.
    ///
    /// # Errors
    /// The kernel's, when it cannot sleep.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut news = Vec::new();
        loop {
            self.io.poll(&mut news);
            // The tick of the driver is part of what a shard pays for; there is nothing to do.
            self.io.take_tick();
            let incoming = self.io.take_incoming();
            if news.is_empty() && !incoming && self.due == 0 {
                if self.io.prepare_sleep() {
                    sys::wait_readable(self.io.sleeps_on())?;
                }
                self.io.woke();
                continue;
            }
            if incoming {
                self.accept();
                self.accept_trigger();
            }
            for ready in news.drain(..) {
                self.on_ready(ready);
            }
            self.answer();
            if self.due > 0 {
                self.due -= 1;
                self.broadcast();
            }
        }
    }

    fn on_ready(&mut self, ready: Ready) {
        match ready.token.slot.index() {
            TRIGGER => self.on_trigger(),
            slot => self.on_client(slot - CLIENTS, ready),
        }
    }

    fn accept(&mut self) {
        while let Some(socket) = accepted(&self.listener) {
            let index = self.free.pop().unwrap_or_else(|| {
                self.clients.push(None);
                self.generations.push(0);
                self.clients.len() - 1
            });
            let state = State::Handshaking(Head::default());
            self.clients[index] = Some(Client { socket, state });
            self.io.watch(socket, self.token(index));
        }
    }

    fn accept_trigger(&mut self) {
        while let Some(socket) = accepted(&self.triggers) {
            // One publisher at a time: the last one that came.
            if let Some(old) = self.trigger.replace(socket) {
                self.io.release(old, token(TRIGGER, 0), Release::Graceful);
                self.io.close(old);
            }
            self.io.watch(socket, token(TRIGGER, 0));
        }
    }

    fn on_trigger(&mut self) {
        let Some(socket) = self.trigger else { return };
        if let Received::Bytes(count) = self.io.receive(socket, &mut self.buffer) {
            self.due += count;
        }
    }

    fn on_client(&mut self, index: usize, ready: Ready) {
        let Some(client) = self.clients[index] else { return };
        if ready.token != self.token(index) {
            return;
        }
        if matches!(client.state, State::Released) {
            if ready.ended {
                self.io.close(client.socket);
                self.clients[index] = None;
                self.generations[index] = self.generations[index].wrapping_add(1);
                self.free.push(index);
            }
            return;
        }
        if ready.readable {
            self.read(index, client, ready.hangup);
        }
        if ready.ended && self.is_held(index) {
            self.io.watch(client.socket, self.token(index));
        }
    }

    /// Reads until the socket is empty; what comes after the head is thrown away.
    fn read(&mut self, index: usize, mut client: Client, hangup: bool) {
        loop {
            match self.io.receive(client.socket, &mut self.buffer) {
                Received::Bytes(count) => {
                    if let State::Handshaking(head) = &mut client.state
                        && head.take(&self.buffer[..count])
                    {
                        client.state = State::Open;
                        self.answers.push(index);
                    }
                    self.clients[index] = Some(client);
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
        let token = self.token(index);
        if let Some(client) = &mut self.clients[index]
            && !matches!(client.state, State::Released)
        {
            client.state = State::Released;
            self.io.release(client.socket, token, Release::Graceful);
        }
    }

    fn answer(&mut self) {
        let answers = std::mem::take(&mut self.answers);
        self.send(&answers, UPGRADED);
    }

    fn broadcast(&mut self) {
        let open = |client: &Option<Client>| {
            client.is_some_and(|client| matches!(client.state, State::Open))
        };
        let everyone: Vec<usize> =
            (0..self.clients.len()).filter(|index| open(&self.clients[*index])).collect();
        let frame = std::mem::take(&mut self.frame);
        self.send(&everyone, &frame);
        self.frame = frame;
    }

    /// Sends `bytes` to each client of `indices`, in their order. One that does not take all of
    /// them is let go: the ceiling is only of use while the readers keep up.
    fn send(&mut self, indices: &[usize], bytes: &[u8]) {
        let mut writes = Vec::with_capacity(SWEEP_SENDS_MAX);
        for chunk in indices.chunks(SWEEP_SENDS_MAX) {
            writes.clear();
            let sockets = chunk.iter().filter_map(|index| self.clients[*index]);
            writes.extend(sockets.map(|client| Write { socket: client.socket, bytes }));
            self.results.clear();
            self.io.send(&writes, &mut self.results);
            let whole = Wrote::Bytes(bytes.len());
            if self.results.iter().any(|result| *result != whole) {
                let results = std::mem::take(&mut self.results);
                let stuck = chunk.iter().zip(&results).filter(|(_, result)| **result != whole);
                stuck.for_each(|(index, _)| self.release(*index));
            }
        }
    }

    fn is_held(&self, index: usize) -> bool {
        self.clients[index].is_some_and(|client| !matches!(client.state, State::Released))
    }

    fn token(&self, index: usize) -> Token {
        token(index + CLIENTS, self.generations[index])
    }
}

fn token(slot: usize, generation: u32) -> Token {
    Token { slot: Slot::new(slot), generation: Generation::new(generation) }
}

/// The next socket in `listener`'s queue. Without descriptors the client is left there: the run
/// was too large for the limit, and the generator says so.
fn accepted(listener: &Listener) -> Option<Socket> {
    loop {
        match listener.accept() {
            Accepted::Socket(socket) => return Some(socket),
            Accepted::Aborted => {}
            Accepted::Nobody | Accepted::Exhausted(_) => return None,
        }
    }
}
