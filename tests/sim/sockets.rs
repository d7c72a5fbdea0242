//! One shard's view of the simulated network. In the server this is a ring or epoll.

use std::cell::RefCell;
use std::rc::Rc;

use corecast::ids::Moment;
use corecast::kernel::{ConnectionKey, Ready, Received, Release, Socket, Sockets, Write, Wrote};
use corecast::limits::SWEEP_SENDS_MAX;
use corecast::proxies::Peer;

use super::network::Network;

pub struct SimSockets {
    shard: usize,
    network: Rc<RefCell<Network>>,
    /// The sockets with a write since they were last taken.
    tried: Vec<Socket>,
}

impl SimSockets {
    pub fn new(shard: usize, network: Rc<RefCell<Network>>) -> SimSockets {
        SimSockets { shard, network, tried: Vec::new() }
    }

    /// Returns the sockets with a write since the last call.
    pub fn take_tried(&mut self) -> Vec<Socket> {
        std::mem::take(&mut self.tried)
    }

    /// Whether the thread may sleep, which requires that no event is pending.
    pub fn prepare_sleep(&self) -> bool {
        !self.network.borrow().has_news(self.shard)
    }
}

impl Sockets for SimSockets {
    fn watch(&mut self, socket: Socket, key: ConnectionKey) {
        self.network.borrow_mut().watch(self.shard, socket, key);
    }

    fn peer(&self, _socket: Socket) -> Option<Peer> {
        None
    }

    fn receive(&mut self, socket: Socket, buffer: &mut [u8]) -> Received {
        self.network.borrow_mut().receive(self.shard, socket, buffer)
    }

    fn send(&mut self, writes: &[Write<'_>], results: &mut Vec<Wrote>) {
        assert!(writes.len() <= SWEEP_SENDS_MAX, "a batch must fit into the ring");
        let mut sockets: Vec<i32> = writes.iter().map(|write| write.socket.number()).collect();
        sockets.sort_unstable();
        sockets.dedup();
        assert_eq!(sockets.len(), writes.len(), "one write for each socket of a batch");
        self.tried.extend(writes.iter().map(|write| write.socket));
        let mut network = self.network.borrow_mut();
        results.extend(writes.iter().map(|write| network.send(self.shard, write)));
    }

    fn has_sent_all(&self, socket: Socket) -> bool {
        self.network.borrow().has_sent_all(self.shard, socket)
    }

    fn finish(&mut self, socket: Socket) {
        self.network.borrow_mut().finish(self.shard, socket);
    }

    fn release(&mut self, socket: Socket, key: ConnectionKey, how: Release) {
        self.network.borrow_mut().release(self.shard, socket, key, how);
    }

    fn close(&mut self, socket: Socket) {
        self.network.borrow_mut().close(self.shard, socket);
    }

    fn poll(&mut self, ready: &mut Vec<Ready>) {
        self.network.borrow_mut().poll(self.shard, ready);
    }

    fn take_tick(&mut self) -> bool {
        self.network.borrow_mut().take_tick(self.shard)
    }

    fn now(&self) -> Moment {
        self.network.borrow().now()
    }

    fn is_open(&self, socket: Socket) -> bool {
        self.network.borrow().is_open(self.shard, socket)
    }
}
