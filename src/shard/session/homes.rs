//! Requests to the homes of channels, their limits, and the state that waits for answers.

use super::clients::Clients;
use super::creating::Creating;
use super::notices::Notices;
use super::pending::PendingSubscriptions;
use crate::channel::ChannelName;
use crate::ids::Since;
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::SUBSCRIBING_REPLY_BYTES;
use crate::mesh::{HomeMap, Subscribe, ToHome};
use crate::shard::delivery::Entered;

/// The first publication of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The next publication.
    Live,
    /// All publications after this position, if the channel still has them.
    After(Since),
    /// This number of the newest publications.
    Newest(usize),
}

/// Access to the homes of channels.
pub struct Homes {
    /// Maps each channel to its home shard.
    pub map: HomeMap,
    /// The limit on channels that clients create.
    pub creating: Creating,
    /// Pending subscriptions that no client requested.
    pub pending: PendingSubscriptions,
    /// Subscribers that have missed publications, for which homes may still be asked.
    pub notices: Notices,
}

impl Homes {
    /// Creates the state without any requests.
    pub fn new(map: HomeMap, creating: Creating) -> Homes {
        Homes { map, creating, pending: PendingSubscriptions::default(), notices: Notices::new() }
    }

    /// Asks the home of a channel for a subscription that begins with `start`.
    pub fn request_subscription<S: Sockets>(
        &self,
        clients: &mut Clients<S>,
        key: ConnectionKey,
        channel: &ChannelName,
        start: Start,
    ) {
        let Ok(namespace) = clients.options.namespaces().resolve(channel.as_str()) else {
            unreachable!("the name was resolved before the request")
        };
        let home = self.map.home(channel.as_str());
        let subnet = clients.slots.subnet(key.slot);
        if clients.delivery.expect_answer(channel, namespace, home, subnet) == Entered::New {
            clients.subnets.add_channel(subnet);
        }
        // The cost arises when the home answers, but the turn must stop reading requests before.
        clients.delivery.count_replied(SUBSCRIBING_REPLY_BYTES);
        let connection = clients.connection_id(key);
        let channel = channel.clone();
        let (confirmed, unserved) = (false, clients.slots.connection(key).unserved());
        let (recover, last) = match start {
            Start::Live => (None, 0),
            Start::After(since) => (Some(since), 0),
            Start::Newest(count) => (None, count),
        };
        let subscribe = Subscribe { channel, connection, recover, last, confirmed, unserved };
        clients.post.to_shard(home, ToHome::Subscribe(Box::new(subscribe)));
    }
}
