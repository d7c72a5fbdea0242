//! Tests of the sending side: order, spill, gaps and wakes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::ids::{ConnectionId, Epoch, Generation, Moment, Position, ShardId, Slot};
use crate::mesh::{Inbox, Subscribed};

/// Counts wakes.
#[derive(Clone, Debug, Default)]
struct Counter(Arc<AtomicUsize>);

impl Wake for Counter {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A lane, and the inbox at its end.
struct Fixture {
    lane: ShardLane,
    inbox: Inbox<ShardMail>,
    wakes: Counter,
}

impl Fixture {
    fn new(inbox_batches: usize, spill_publications: usize) -> Fixture {
        let cost = publication(1).cost_bytes() + ENTRY_OVERHEAD_BYTES;
        let (inbox, address) = Inbox::new(inbox_batches);
        let wakes = Counter::default();
        let wake = Box::new(wakes.clone());
        Fixture {
            lane: ShardLane::with_spill(address, wake, spill_publications * cost),
            inbox,
            wakes,
        }
    }

    /// Publishes in a separate turn.
    fn publish(&mut self, channel: &str, offset: u64) {
        self.lane.push_publication(&ChannelName::new(channel), &publication(offset));
        self.lane.flush();
    }

    /// Takes one batch, as text.
    fn take(&mut self) -> String {
        let batch = self.inbox.take().unwrap_or_default();
        batch.iter().map(text).collect::<Vec<_>>().join(" ")
    }

    /// Takes everything that the lane has, as text, a batch at a time.
    fn take_all(&mut self) -> String {
        let mut all = Vec::new();
        while !self.inbox.is_empty() {
            all.push(self.take());
            self.lane.flush();
        }
        assert!(!self.lane.is_behind(), "there was room for everything");
        all.join(" ")
    }
}

fn publication(offset: u64) -> Arc<Publication> {
    Arc::new(Publication {
        data: Box::from(&b"{}"[..]),
        offset,
        publisher: None,
        tags: Box::default(),
        accepted: Moment::default(),
    })
}

fn leave(channel: &str) -> ToHome {
    ToHome::Leave { shard: ShardId::new(0), channel: ChannelName::new(channel) }
}

fn subscribed(channel: &str, offset: u64) -> ToShard {
    let (shard, slot, generation) = (ShardId::new(0), Slot::new(0), Generation::new(0));
    ToShard::Subscribed(Box::new(Subscribed {
        channel: ChannelName::new(channel),
        connection: ConnectionId { shard, slot, generation },
        top: Position { epoch: Epoch::new(1), offset },
        recovered: None,
    }))
}

fn text(message: &ShardMail) -> String {
    match message {
        ShardMail::Shard(ToShard::Live { channel, publications }) => {
            let offsets = publications.iter().map(|publication| publication.offset.to_string());
            format!("{}:{}", channel.as_str(), offsets.collect::<Vec<_>>().join(","))
        }
        ShardMail::Shard(ToShard::Gap { channel, after, next }) => {
            format!("{}:{after}..{next}", channel.as_str())
        }
        ShardMail::Home(ToHome::Leave { channel, .. }) => format!("{}:leave", channel.as_str()),
        ShardMail::Shard(ToShard::Subscribed(answer)) => {
            format!("{}:top{}", answer.channel.as_str(), answer.top.offset)
        }
        other => panic!("no test sends {other:?}"),
    }
}

#[test]
fn publications_of_a_channel_that_follow_each_other_travel_together() {
    let mut fixture = Fixture::new(4, 100);
    let (a, b) = (ChannelName::new("a"), ChannelName::new("b"));
    for (channel, offset) in [(&a, 1), (&a, 2), (&b, 1), (&a, 3)] {
        fixture.lane.push_publication(channel, &publication(offset));
    }
    fixture.lane.flush();
    assert_eq!(fixture.take(), "a:1,2 b:1 a:3");
}

#[test]
fn what_finds_no_room_is_kept_and_sent_before_anything_newer() {
    let mut fixture = Fixture::new(1, 100);
    (1..=3).for_each(|offset| fixture.publish("a", offset));
    fixture.lane.push(leave("a"));
    fixture.lane.flush();
    assert!(fixture.lane.is_behind());
    assert_eq!(fixture.take_all(), "a:1 a:2 a:3 a:leave");
    assert_eq!(fixture.lane.take_dropped(), 0);
}

#[test]
fn publications_beyond_the_spill_become_one_gap_for_each_channel() {
    let mut fixture = Fixture::new(1, 2);
    (1..=7).for_each(|offset| fixture.publish("b", offset));
    (5..=6).for_each(|offset| fixture.publish("a", offset));
    assert_eq!(fixture.lane.take_dropped(), 6);
    assert_eq!(fixture.take_all(), "b:1 b:2 b:3 a:4..7 b:3..8");
}

#[test]
fn what_follows_a_gap_belongs_to_it_until_its_notice_is_on_its_way() {
    let mut fixture = Fixture::new(1, 1);
    (1..=3).for_each(|offset| fixture.publish("a", offset));
    assert_eq!(fixture.take(), "a:1", "now there is room again");
    // The first is sent; the notice waits behind it, and has not left yet.
    fixture.lane.push_publication(&ChannelName::new("a"), &publication(4));
    fixture.lane.flush();
    fixture.publish("a", 5);
    assert_eq!(fixture.take_all(), "a:2 a:2..5 a:5");
}

#[test]
fn messages_that_must_arrive_are_kept_however_full_the_spill_is() {
    let mut fixture = Fixture::new(1, 1);
    (1..=9).for_each(|offset| fixture.publish("a", offset));
    for _ in 0..3 {
        fixture.lane.push(leave("b"));
        fixture.lane.flush();
    }
    assert_eq!(fixture.take_all(), "a:1 a:2 b:leave b:leave b:leave a:2..10");
}

#[test]
fn the_answer_to_a_subscription_takes_the_place_of_a_pending_gap() {
    let mut fixture = Fixture::new(1, 1);
    (1..=5).for_each(|offset| fixture.publish("a", offset));
    // The channel has ended and begun again, and has a new order.
    fixture.lane.push(subscribed("a", 0));
    fixture.lane.flush();
    assert_eq!(fixture.take_all(), "a:1 a:2 a:top0");
    fixture.publish("a", 1);
    assert_eq!(fixture.take_all(), "a:1");
}

#[test]
fn a_publication_outside_the_order_leaves_no_gap() {
    let mut fixture = Fixture::new(1, 1);
    (1..=2).for_each(|offset| fixture.publish("a", offset));
    fixture.publish("a", 0);
    assert_eq!(fixture.lane.take_dropped(), 1);
    assert_eq!(fixture.take_all(), "a:1 a:2");
}

#[test]
fn a_sleeping_receiver_is_woken_once_and_a_running_one_never() {
    let mut fixture = Fixture::new(8, 1);
    let wakes = |fixture: &Fixture| fixture.wakes.0.load(Ordering::Relaxed);
    fixture.publish("a", 1);
    assert_eq!(wakes(&fixture), 0, "it runs");
    assert!(!fixture.inbox.prepare_sleep(), "a batch came first");
    assert_eq!(fixture.take(), "a:1");
    assert!(fixture.inbox.prepare_sleep());
    (2..=4).for_each(|offset| fixture.publish("a", offset));
    assert_eq!(wakes(&fixture), 1, "the receiver was woken");
    fixture.inbox.woke();
    fixture.publish("a", 5);
    assert_eq!(wakes(&fixture), 1);
}

#[test]
fn nothing_is_kept_for_a_thread_that_has_ended() {
    let mut fixture = Fixture::new(1, 100);
    fixture.publish("a", 1);
    fixture.publish("a", 2);
    drop(fixture.inbox);
    fixture.lane.flush();
    assert!(!fixture.lane.is_behind());
}

#[test]
fn a_batch_is_handed_over_before_it_grows_without_bound() {
    let mut fixture = Fixture::new(8, 100);
    (0..=BATCH_MESSAGES_MAX).for_each(|_| fixture.lane.push(leave("a")));
    let batch = fixture.inbox.take().map(|batch| batch.len());
    assert_eq!(batch, Some(BATCH_MESSAGES_MAX));
}

#[test]
fn what_is_sent_now_arrives_at_once_or_is_not_taken() {
    let mut fixture = Fixture::new(1, 10);
    assert!(fixture.lane.send_now(leave("a")), "the inbox is empty");
    assert!(fixture.lane.send_now(leave("b")), "nothing waits before it");
    assert!(!fixture.lane.send_now(leave("c")), "the one before it waits for room");
    assert_eq!(fixture.take(), "a:leave");
    assert!(fixture.lane.send_now(leave("d")), "there is room for it behind the one that waited");
    assert_eq!(fixture.take_all(), "b:leave d:leave");
}
