//! Limits the rate at which clients create channels. A new name costs this shard, its home and
//! perhaps Redis something, so the rate of new names must be limited.
//!
//! Only a channel's home, or Redis, knows whether a name is new, and reports it afterwards. So a
//! client is charged when it asks for a name without subscribers on this shard. If the answer shows
//! that the name was not new, the charge is taken back. Otherwise a client could ask for many names
//! before the first answer. A client that has used up its allowance is refused such names until
//! time has passed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::clients::Clients;
use crate::connection::Charge;
use crate::ids::{ConnectionId, Moment};
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::{
    CONNECTION_CHANNELS_MAX, FORGOTTEN_PER_TURN, PUBLISHING_MAX, SUBNET_CHANNELS_FACTOR,
};
use crate::pool::Pool;
use crate::reason::ClientError;
use crate::shard::options::{Options, Pools};
use crate::subnets::{PerSecond, Row};

/// The channels that clients have created recently.
pub struct Creating {
    /// Time after which a client may create one more channel.
    interval: Duration,
    /// Maximum number of channels that a client may create in a burst.
    burst: u32,
    /// Maximum number of channels that all clients of the node may create in a second, and their
    /// number so far.
    per_second_max: u32,
    node: Arc<PerSecond>,
    /// The limit of the node for channels, which shows how many are left.
    channels: Pool,
    /// The used allowance of each client. Clients with their full allowance have no entry.
    used: HashMap<ConnectionId, Used>,
    /// The same clients, in the order in which they are checked for removal.
    round: VecDeque<ConnectionId>,
}

/// The used allowance of a client.
struct Used {
    /// Time at which the client will have its full allowance again.
    until: Moment,
    /// The second of the last charge.
    second: u32,
    /// Number of charged names that have not been answered.
    asked: u16,
    /// Number of the unanswered names that are known to be new.
    created: u16,
}

const _: () = assert!(CONNECTION_CHANNELS_MAX + PUBLISHING_MAX as usize <= u16::MAX as usize);

impl Creating {
    /// Creates an empty table, in which all clients have their full allowance.
    pub fn new(options: &Options, pools: &Pools) -> Creating {
        let client = options.client().channels_created_per_second_max.max(1);
        Creating {
            interval: Duration::from_secs(1) / client,
            burst: u32::try_from(options.client().channels_max).unwrap_or(u32::MAX).max(client),
            per_second_max: options.settings.channel.created_per_second_max,
            node: Arc::clone(&pools.created),
            channels: pools.channels.clone(),
            used: HashMap::default(),
            round: VecDeque::new(),
        }
    }

    /// Checks whether a client may use a name that may be new, in addition to `ahead` others that
    /// it uses at the same time. `subnet` is the use of its network, or `None` if that is exempt.
    ///
    /// # Errors
    /// The limit that is reached: the client, its subnet or the node has created too many channels
    /// recently, or its subnet has too many.
    fn check(
        &self,
        now: Moment,
        connection: ConnectionId,
        ahead: u32,
        subnet: Option<&Row>,
    ) -> Result<(), ClientError> {
        let second = second_of(now);
        let node_left = self.per_second_max.saturating_sub(self.node.count(second));
        let left = node_left.saturating_sub(ahead);
        if !self.has_own(now, connection, ahead) {
            return Err(ClientError::ClientCreates);
        }
        if left == 0 {
            return Err(ClientError::NodeCreates);
        }
        let Some(row) = subnet else { return Ok(()) };
        // A subnet may use only a share of what is left, so that one network can't use up the
        // node's limit.
        let is_share = |used: u32, left: usize| {
            used.saturating_add(ahead) as usize <= left.saturating_mul(SUBNET_CHANNELS_FACTOR)
        };
        if !is_share(row.created().count(second), left as usize) {
            return Err(ClientError::NetworkCreates);
        }
        let channels_left = self.channels.left().saturating_sub(ahead as usize);
        if is_share(row.channels(), channels_left) {
            Ok(())
        } else {
            Err(ClientError::NetworkChannels)
        }
    }

    /// Whether the client's own allowance suffices for one more channel in addition to `ahead`
    /// others.
    fn has_own(&self, now: Moment, connection: ConnectionId, ahead: u32) -> bool {
        let used = self.used.get(&connection).map_or(Duration::ZERO, |used| used.until.since(now));
        used + self.interval * ahead <= self.interval * (self.burst - 1)
    }

    /// Whether the client's own allowance could suffice if the names that it has asked for turned
    /// out not to be new.
    fn may_have_own(&self, now: Moment, connection: ConnectionId) -> bool {
        let asked = self.used.get(&connection).is_some_and(|used| used.asked > used.created);
        asked && !self.has_own(now, connection, 0)
    }

    /// Charges a client and its subnet for a name that it asks for.
    fn ask(&mut self, now: Moment, connection: ConnectionId, subnet: Option<&Row>) {
        let used = self.charge(now, connection, subnet);
        used.asked = used.asked.saturating_add(1);
    }

    fn charge(&mut self, now: Moment, connection: ConnectionId, subnet: Option<&Row>) -> &mut Used {
        let second = second_of(now);
        self.node.add(second);
        if let Some(row) = subnet {
            row.created().add(second);
        }
        let used = self.used.entry(connection).or_insert_with(|| {
            self.round.push_back(connection);
            Used { until: now, second, asked: 0, created: 0 }
        });
        used.until = used.until.max(now).after(self.interval);
        used.second = second;
        used
    }

    /// Records that a client has created a channel. It has already been charged if the name seemed
    /// new to this shard. It has not if the channel had subscribers on this shard, but no
    /// publications or no state at its home.
    fn on_created(&mut self, now: Moment, connection: ConnectionId, subnet: Option<&Row>) {
        match self.used.get_mut(&connection) {
            Some(used) if used.asked > used.created => used.created += 1,
            _ => {
                self.charge(now, connection, subnet);
            }
        }
    }

    /// Settles the charge for a name that has been answered. The charge is taken back unless one of
    /// the client's names was new.
    fn on_answered(&mut self, now: Moment, connection: ConnectionId, subnet: Option<&Row>) {
        let Some(used) = self.used.get_mut(&connection).filter(|used| used.asked > 0) else {
            return; // The client has its full allowance again.
        };
        used.asked -= 1;
        if used.created > 0 {
            used.created -= 1;
            return;
        }
        let left = used.until.since(now).saturating_sub(self.interval);
        used.until = now.after(left);
        // Charges of an earlier second no longer limit any client.
        let second = second_of(now);
        if used.second == second {
            self.node.take_back(second);
            if let Some(row) = subnet {
                row.created().take_back(second);
            }
        }
    }

    /// Removes some of the clients that have their full allowance again.
    pub fn on_tick(&mut self, now: Moment) {
        // The number of steps is bounded, because a million clients may have entries.
        for _ in 0..FORGOTTEN_PER_TURN.min(self.round.len()) {
            let Some(connection) = self.round.pop_front() else {
                unreachable!("each step takes one of the clients that were listed before")
            };
            let over = self.used.get(&connection).is_none_or(|used| used.until <= now);
            if over {
                self.used.remove(&connection);
            } else {
                self.round.push_back(connection);
            }
        }
    }

    /// Checks whether a client may use a channel that may be new, in addition to `ahead` others. A
    /// caller that then asks for the channel must charge the client with [`Creating::ask_name`].
    ///
    /// # Errors
    /// See [`Creating::check`].
    pub fn check_name<S: Sockets>(
        &self,
        clients: &Clients<S>,
        key: ConnectionKey,
        name: &str,
        ahead: u32,
    ) -> Result<(), ClientError> {
        if clients.delivery.find(name).is_some() {
            return Ok(());
        }
        let subnet = clients.subnets.row(clients.slots.subnet(key.slot));
        let checked = self.check(clients.clock.now(), clients.connection_id(key), ahead, subnet);
        if checked.is_err() {
            clients.counters.channels_refused.add(1);
        }
        checked
    }

    /// Charges a client that asks for a channel, if the channel may be new. If the client is
    /// charged, the caller must call [`Creating::on_name_answered`] after the answer. A client that
    /// leaves before stays charged.
    pub fn ask_name<S: Sockets>(
        &mut self,
        clients: &Clients<S>,
        key: ConnectionKey,
        name: &str,
    ) -> Charge {
        if clients.delivery.find(name).is_some() {
            return Charge::Free;
        }
        let connection = clients.connection_id(key);
        let subnet = clients.subnets.row(clients.slots.subnet(key.slot));
        self.ask(clients.clock.now(), connection, subnet);
        Charge::Charged
    }

    /// Settles the charge of a client after the answer about its channel.
    pub fn on_name_answered<S: Sockets>(&mut self, clients: &Clients<S>, key: ConnectionKey) {
        let connection = clients.connection_id(key);
        let subnet = clients.subnets.row(clients.slots.subnet(key.slot));
        self.on_answered(clients.clock.now(), connection, subnet);
    }

    /// Whether a client is refused a channel now, but may be granted it after the results of its
    /// publications in progress.
    pub fn may_have_later<S: Sockets>(
        &self,
        clients: &Clients<S>,
        key: ConnectionKey,
        name: &str,
    ) -> bool {
        clients.delivery.find(name).is_none()
            && self.may_have_own(clients.clock.now(), clients.connection_id(key))
    }

    /// Records that a client of this shard has created a channel. If the client has left, its
    /// subnet is not charged.
    pub fn on_name_created<S: Sockets>(
        &mut self,
        clients: &mut Clients<S>,
        connection: ConnectionId,
    ) {
        let key = ConnectionKey::of(connection);
        let is_there = clients.slots.get(key).is_some();
        let subnet = clients.subnets.row(clients.slots.subnet(key.slot)).filter(|_| is_there);
        self.on_created(clients.clock.now(), connection, subnet);
        clients.counters.channels_created.add(1);
    }
}

/// The second that contains `now`.
fn second_of(now: Moment) -> u32 {
    (now.nanos() / 1_000_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Generation, ShardId, Slot};
    use crate::settings::Settings;
    use crate::subnets::{Subnet, SubnetId, Subnets};

    fn creating(client: u32, burst: usize, node: u32) -> Creating {
        let mut settings = Settings::default();
        settings.client.channels_created_per_second_max = client;
        settings.client.channels_max = burst;
        settings.channel.created_per_second_max = node;
        let pools = Pools { channels: Pool::new(900, 1, 1), ..Pools::new(&settings, 1) };
        Creating::new(&Options::new(&Arc::new(settings), 1), &pools)
    }

    fn connection(slot: usize) -> ConnectionId {
        let (shard, generation) = (ShardId::new(0), Generation::new(0));
        ConnectionId { shard, slot: Slot::new(slot), generation }
    }

    /// The number of channels that a client can create at a moment, in `tries` attempts.
    fn create(
        creating: &mut Creating,
        now: Moment,
        (slot, subnet): (usize, Option<&Row>),
        tries: usize,
    ) -> usize {
        let mut try_one = |_: &usize| {
            let allowed = creating.check(now, connection(slot), 0, subnet).is_ok();
            if allowed {
                creating.ask(now, connection(slot), subnet);
                creating.on_created(now, connection(slot), subnet);
                creating.on_answered(now, connection(slot), subnet);
            }
            allowed
        };
        (0..tries).filter(&mut try_one).count()
    }

    #[test]
    fn a_client_creates_its_burst_and_then_no_more_than_its_rate() {
        let mut creating = creating(16, 128, 1_000_000);
        let millis = (0..10_000).map(|millis| Moment::from_nanos(millis * 1_000_000));
        let count: usize = millis.map(|now| create(&mut creating, now, (0, None), 10)).sum();
        assert!((128 + 10 * 16 - 2..=128 + 10 * 16 + 1).contains(&count), "{count}");
        let now = Moment::from_nanos(10_000_000_000);
        assert_eq!(create(&mut creating, now, (1, None), 5), 5, "other clients are not affected");
    }

    #[test]
    fn all_clients_together_create_no_more_than_the_node_may() {
        let mut creating = creating(1_000, 1_000, 50);
        let now = Moment::from_nanos(1);
        let count: usize = (0..60).map(|slot| create(&mut creating, now, (slot, None), 1)).sum();
        assert_eq!(count, 50);
        let later = now.after(Duration::from_secs(1));
        assert_eq!(create(&mut creating, later, (99, None), 1), 1);
    }

    #[test]
    fn a_subnet_alone_creates_most_of_what_the_node_may_and_leaves_the_rest_to_others() {
        let mut creating = creating(1_000, 1_000, 90);
        let subnets = Subnets::new(100);
        let rows = [1, 2].map(|at| subnets.enter(Subnet::of_ipv4([10, 0, at, 1])));
        let [one, other] = rows.map(|id| subnets.row(id));
        let now = Moment::from_nanos(1);
        assert_eq!(create(&mut creating, now, (0, one), 1_000), 81);
        assert_eq!(create(&mut creating, now, (1, other), 5), 5);
        assert_eq!(create(&mut creating, now, (2, one), 5), 0, "whichever client it is");
    }

    #[test]
    fn a_subnet_alone_has_most_channels_of_the_node_and_leaves_the_rest_to_others() {
        let creating = creating(1_000, 1_000, 1_000_000);
        let subnets = Subnets::new(100);
        let [one, other] = [1, 2].map(|at| subnets.enter(Subnet::of_ipv4([10, 0, at, 1])));
        let mut share = crate::pool::Share::new(creating.channels.clone());
        let check =
            |id: SubnetId| creating.check(Moment::default(), connection(0), 0, subnets.row(id));
        let mut count = 0;
        while check(one).is_ok() {
            count += 1;
            assert!(share.reach(count), "it is stopped before the node is full");
            subnets.add_channel(one);
        }
        assert_eq!(count, 801);
        assert_eq!(check(other), Ok(()));
        subnets.remove_channel(one);
        share.settle(count - 2);
        assert_eq!(check(one), Ok(()));
    }

    #[test]
    fn clients_that_have_their_allowance_again_are_forgotten() {
        let mut creating = creating(10, 10, 1_000_000);
        let now = Moment::from_nanos(1);
        (0..100).for_each(|slot| creating.ask(now, connection(slot), None));
        creating.on_tick(now);
        assert_eq!((creating.used.len(), creating.round.len()), (100, 100));
        creating.on_tick(now.after(Duration::from_secs(1)));
        assert_eq!((creating.used.len(), creating.round.len()), (0, 0));
    }

    #[test]
    fn names_that_are_asked_for_count_before_they_are_answered() {
        let mut creating = creating(1, 10, 50);
        let now = Moment::from_nanos(1);
        let mut ask = |slot: usize, tries: usize| {
            let may = |creating: &Creating| creating.check(now, connection(slot), 0, None);
            let asked = (0..tries).take_while(|_| {
                let allowed = may(&creating).is_ok();
                if allowed {
                    creating.ask(now, connection(slot), None);
                }
                allowed
            });
            asked.count()
        };
        assert_eq!(ask(0, 60), 10, "its burst");
        assert_eq!((1..9).map(|slot| ask(slot, 60)).sum::<usize>(), 40, "the node's limit");
    }

    #[test]
    fn what_was_there_already_is_given_back() {
        let mut creating = creating(1, 10, 50);
        let (now, one) = (Moment::from_nanos(1), connection(0));
        (0..10).for_each(|_| creating.ask(now, one, None));
        assert!(creating.may_have_own(now, one));
        (0..4).for_each(|_| creating.on_created(now, one, None));
        (0..10).for_each(|_| creating.on_answered(now, one, None));
        assert_eq!(create(&mut creating, now, (0, None), 60), 6, "four were new");
        assert!(!creating.may_have_own(now, one), "all is answered");
        assert_eq!(creating.node.count(0), 10);
        creating.on_created(now, one, None);
        assert_eq!(creating.node.count(0), 11, "an uncharged name is charged as well");
    }

    #[test]
    fn names_that_are_asked_for_together_count_together() {
        let creating = creating(1, 10, 5);
        let check = |ahead| creating.check(Moment::default(), connection(0), ahead, None);
        assert_eq!((check(4), check(5)), (Ok(()), Err(ClientError::NodeCreates)));
    }
}
