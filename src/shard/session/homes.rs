//! What is asked of the homes of channels, how fast clients may, and what waits for their answers.

use super::clients::Clients;
use super::creating::Creating;
use super::joining::Joining;
use super::notices::Notices;
use crate::channel::ChannelName;
use crate::ids::Since;
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::SUBSCRIBING_REPLY_BYTES;
use crate::mesh::{HomeMap, Subscribe, ToHome};
use crate::shard::delivery::Entered;

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the next publication.
    Live,
    /// With all that came after this position, if its channel still has that.
    After(Since),
    /// With so many of the newest publications.
    Newest(usize),
}

/// The way to the homes of channels.
pub struct Homes {
    /// Which shard orders which channel.
    pub map: HomeMap,
    /// How many channels clients bring into being.
    pub creating: Creating,
    /// Subscriptions that no client asked for and that are not answered.
    pub joining: Joining,
    /// Subscribers that have missed something, for whom their homes may still be asked.
    pub notices: Notices,
}

impl Homes {
    /// Nothing has been asked.
    pub fn new(map: HomeMap, creating: Creating) -> Homes {
        Homes { map, creating, joining: Joining::default(), notices: Notices::new() }
    }

    /// Asks the home shard of a channel for a subscription that begins with what was missed, or
    /// with so many of the newest publications.
    pub fn request_subscription<S: Sockets>(
        &self,
        clients: &mut Clients<S>,
        key: ConnectionKey,
        channel: &ChannelName,
        start: Start,
    ) {
        let Ok(namespace) = clients.options.namespaces().resolve(channel.as_str()) else {
            unreachable!("the name was checked when it was asked for")
        };
        let home = self.map.home(channel.as_str());
        let subnet = clients.slots.subnet(key.slot);
        if clients.delivery.channels.expect_answer(channel, namespace, home, subnet) == Entered::New
        {
            clients.subnets.add_channel(subnet);
        }
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
