//! Clients that are accepted but wait because of `accept_rate`. Subnets take turns, so the clients
//! of the busiest subnet wait longest. A subnet that waits alone has every turn.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::os::fd::OwnedFd;

use crate::subnets::Subnet;

/// A client that has been accepted. Tests have other sockets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client<S = OwnedFd> {
    pub(super) socket: S,
    pub(super) subnet: Subnet,
}

/// The queues of waiting clients of one shard, by subnet.
#[derive(Debug)]
pub(super) struct Waiting<S = OwnedFd> {
    /// The queue of each subnet. No queue is empty.
    queues: HashMap<Subnet, VecDeque<S>>,
    /// The subnets with a queue, in the order of their turns. Exempt clients are not among them.
    turns: VecDeque<Subnet>,
    /// The same subnets with the lengths of their queues; the longest is last.
    lengths: BTreeSet<(usize, Subnet)>,
    count: usize,
}

impl<S> Waiting<S> {
    /// Adds a client to the queue of its subnet. If `count_max` clients already wait, it removes
    /// and returns the last client of the longest queue, which may be the new one.
    pub(super) fn push(&mut self, client: Client<S>, count_max: usize) -> Option<S> {
        let Client { socket, subnet } = client;
        let mut refused = None;
        if self.count >= count_max {
            let own = self.queue_count(subnet);
            match self.longest().filter(|&longest| self.queue_count(longest) > own + 1) {
                Some(longest) => refused = self.take(longest, VecDeque::pop_back),
                None => return Some(socket),
            }
        }
        let queue = self.queues.entry(subnet).or_default();
        if queue.is_empty() && !subnet.is_exempt() {
            self.turns.push_back(subnet);
        }
        queue.push_back(socket);
        let length = queue.len();
        self.count += 1;
        self.note_length(subnet, length - 1, length);
        refused
    }

    /// Removes and returns the next client: an exempt one if there is one, otherwise the first
    /// client of the next subnet.
    pub(super) fn pop(&mut self) -> Option<Client<S>> {
        if let Some(socket) = self.take(Subnet::EXEMPT, VecDeque::pop_front) {
            return Some(Client { socket, subnet: Subnet::EXEMPT });
        }
        let &subnet = self.turns.front()?;
        let socket = self.take(subnet, VecDeque::pop_front)?;
        if self.queues.contains_key(&subnet) {
            self.turns.rotate_left(1);
        }
        Some(Client { socket, subnet })
    }

    /// Returns the number of waiting clients.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns the number of waiting clients of a subnet.
    pub(super) fn queue_count(&self, subnet: Subnet) -> usize {
        self.queues.get(&subnet).map_or(0, VecDeque::len)
    }

    /// Returns the number of waiting clients of the subnet with the most, among those to which
    /// limits apply.
    pub(super) fn longest_count(&self) -> usize {
        self.lengths.last().map_or(0, |&(count, _)| count)
    }

    /// Removes and returns the last client of the longest queue. There must be a queue of two.
    pub(super) fn pop_longest(&mut self) -> Option<S> {
        assert!(self.longest_count() > 1, "no other queue is emptied than that at its turn");
        let longest = self.longest()?;
        self.take(longest, VecDeque::pop_back)
    }

    /// Returns the subnet with the most waiting clients, among those to which limits apply.
    fn longest(&self) -> Option<Subnet> {
        self.lengths.last().map(|&(_, subnet)| subnet)
    }

    fn note_length(&mut self, subnet: Subnet, before: usize, now: usize) {
        if subnet.is_exempt() {
            return;
        }
        self.lengths.remove(&(before, subnet));
        if now > 0 {
            self.lengths.insert((now, subnet));
        }
    }

    /// Removes one client from one end of a queue, and the queue if it is empty then. That can only
    /// happen at the turn of its subnet, because a queue of one is never the longest by so much.
    fn take(&mut self, subnet: Subnet, end: fn(&mut VecDeque<S>) -> Option<S>) -> Option<S> {
        let queue = self.queues.get_mut(&subnet)?;
        let socket = end(queue)?;
        let length = queue.len();
        self.count -= 1;
        self.note_length(subnet, length + 1, length);
        if length == 0 {
            self.queues.remove(&subnet);
            self.turns.pop_front_if(|first| *first == subnet);
        }
        Some(socket)
    }
}

impl<S> Default for Waiting<S> {
    fn default() -> Waiting<S> {
        Waiting {
            queues: HashMap::default(),
            turns: VecDeque::default(),
            lengths: BTreeSet::default(),
            count: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(number: u8) -> Subnet {
        Subnet::of_ipv4([10, 0, number, 1])
    }

    fn numbers(waiting: &mut Waiting<i32>) -> Vec<i32> {
        std::iter::from_fn(|| waiting.pop()).map(|client| client.socket).collect()
    }

    /// Sockets with these numbers wait, each in the subnet that its tens say.
    fn waiting(sockets: &[i32], count_max: usize) -> (Waiting<i32>, Vec<i32>) {
        let mut waiting = Waiting::<i32>::default();
        let mut refused = Vec::new();
        for &number in sockets {
            let from = match number / 10 {
                0 => Subnet::EXEMPT,
                tens => subnet(tens as u8),
            };
            refused.extend(waiting.push(Client { socket: number, subnet: from }, count_max));
        }
        assert_eq!(waiting.count(), sockets.len() - refused.len());
        (waiting, refused)
    }

    #[test]
    fn subnets_take_turns_and_a_lone_one_has_all() {
        let (mut three, refused) = waiting(&[10, 11, 12, 13, 20, 21, 30], 100);
        assert!(refused.is_empty());
        assert_eq!(numbers(&mut three), [10, 20, 30, 11, 21, 12, 13]);
        assert_eq!(three.count(), 0);
        assert!(three.queues.is_empty() && three.turns.is_empty() && three.lengths.is_empty());
    }

    /// With any number of networks, no client costs a scan of all of them.
    #[test]
    fn many_subnets_cost_no_more_than_few() {
        let time = |subnets: u32| {
            let mut waiting = Waiting::<i32>::default();
            let began = std::time::Instant::now();
            for number in 0..40_000 {
                let [_, a, b, c] = (number % subnets).to_be_bytes();
                let subnet = Subnet::of_ipv4([10 + a, b, c, 1]);
                let client = Client { socket: 0, subnet };
                let refused = waiting.push(client, 4096);
                assert_eq!(refused.is_some(), number >= 4096);
                if number % 4 == 0 && refused.is_some() {
                    assert!(waiting.pop().is_some());
                    assert!(waiting.push(client, 4096).is_none());
                }
            }
            began.elapsed()
        };
        // The minimum of several runs, because other processes may use the processor.
        let best = |subnets| (0..5).map(|_| time(subnets)).min().expect("some");
        let (few, many) = (best(4), best(4096));
        assert!(many < few * 20, "{many:?} with 4096 of them, {few:?} with 4");
    }

    #[test]
    fn exempt_clients_go_first() {
        let (mut mixed, _) = waiting(&[10, 11, 1, 2], 100);
        assert_eq!(numbers(&mut mixed), [1, 2, 10, 11]);
    }

    #[test]
    fn the_longest_queue_gives_way_to_others() {
        let (mut crowd, _) = waiting(&[10, 11, 12, 20, 21, 1], 100);
        assert_eq!(crowd.longest_count(), 3);
        assert_eq!([crowd.pop_longest(), crowd.pop_longest()], [Some(12), Some(21)]);
        assert_eq!(numbers(&mut crowd), [1, 10, 20, 11]);
        assert_eq!(crowd.longest_count(), 0);
    }

    #[test]
    fn where_there_is_no_room_the_last_of_the_longest_queue_goes() {
        let (mut crowd, refused) = waiting(&[10, 11, 12, 13, 14, 15, 20, 21, 22, 30], 5);
        // First the subnet's own last client is refused. When other subnets wait too, their clients
        // displace more of its clients.
        assert_eq!(refused, [15, 14, 13, 22, 12]);
        assert_eq!(numbers(&mut crowd), [10, 20, 30, 11, 21]);
        let (_, refused) = waiting(&[10, 20, 30, 40, 50], 4);
        assert_eq!(refused, [50], "all subnets have the same number of clients");
    }
}
