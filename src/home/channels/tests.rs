//! Tests of channels at home: positions, limits of recovery, memory, and the removal of old
//! entries.

mod bounds;
mod epochs;

use std::time::Duration;

use super::*;
use crate::ids::{Epoch, SinceEpoch, Tick};
use crate::limits::{CHANNEL_META_TTL, CHANNEL_POSITION_BYTES};

const TTL: Duration = Duration::from_secs(10);

/// Maximum number of channels in use.
const CHANNELS_MAX: usize = 100;

fn namespace(history_size: usize) -> Arc<Namespace> {
    let defaults = crate::settings::Settings::default().channel.namespaces.plain().clone();
    Arc::new(Namespace { history_size, history_ttl: TTL, ..defaults })
}

/// Channels at home, a clock, and the channel under test.
struct Fixture {
    homes: Channels,
    now: Moment,
    name: ChannelName,
    namespace: Arc<Namespace>,
}

const SHARD: ShardId = ShardId::new(3);

impl Fixture {
    fn new(history_size: usize) -> Fixture {
        Fixture::with_bytes(history_size, 1 << 20)
    }

    fn with_bytes(history_size: usize, bytes_max: usize) -> Fixture {
        Fixture {
            homes: Channels::new(bytes_max, 1, Pool::new(CHANNELS_MAX, 1, 1)),
            now: Moment::from_nanos(1),
            name: ChannelName::new("c"),
            namespace: namespace(history_size),
        }
    }

    fn publish(&mut self) -> Option<Position> {
        self.publish_bytes(2, HistoryUse::Keep)
    }

    fn publish_bytes(&mut self, bytes: usize, history: HistoryUse) -> Option<Position> {
        let publication = Publication {
            data: vec![b'1'; bytes].into(),
            offset: 0,
            publisher: None,
            tags: Box::default(),
            accepted: self.now,
        };
        let channel = Resolved { name: &self.name, namespace: &self.namespace };
        self.homes.publish(self.now, channel, publication, history).position
    }

    /// Subscribes. Returns the position and the recovered offsets.
    fn subscribe(&mut self, since: Option<Since>) -> (Position, Option<Vec<u64>>) {
        let channel = Resolved { name: &self.name, namespace: &self.namespace };
        let granted = self.homes.subscribe(self.now, channel, SHARD, since);
        let Granted { top, recovered, .. } = granted.expect("there is room");
        let offsets = |publications: Vec<Arc<Publication>>| {
            publications.iter().map(|publication| publication.offset).collect()
        };
        (top, recovered.map(offsets))
    }

    /// Reports a loss that concerns all channels. Returns the names of those with listeners.
    fn lose_all(&mut self) -> Vec<String> {
        self.homes.lose(0, 1);
        let mut unverified = Vec::new();
        while self.homes.has_losses() {
            unverified.extend(self.homes.hear_some(10));
        }
        unverified.iter().map(|name| name.as_str().to_owned()).collect()
    }

    fn recover(&mut self, epoch: Epoch, offset: u64) -> Option<Vec<u64>> {
        let since = Since { epoch: SinceEpoch::Exactly(epoch), offset };
        self.subscribe(Some(since)).1
    }

    fn page(&mut self, page: HistoryPage) -> Result<Vec<u64>, ClientError> {
        let bounds = PageBounds { publications_max: 300, bytes_max: RECOVERY_BYTES_MAX };
        let page = self.homes.history(self.now, &self.name, page, bounds)?;
        Ok(page.publications.iter().map(|publication| publication.offset).collect())
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
        // Deadlines are counted in ticks, and none is early.
        let tick = self.now.after(Tick::PERIOD);
        while self.homes.forget_some(tick, 1000) {}
    }

    fn leave(&mut self) {
        self.homes.leave(self.now, &self.name.clone(), SHARD);
    }

    /// Returns an existing channel.
    fn channel(&mut self, name: &str) -> &mut Channel {
        let place = self.homes.channels.find(name).expect("it is there");
        self.homes.channel(place)
    }

    /// Continues with another channel.
    fn call(&mut self, name: &str) {
        self.name = ChannelName::new(name);
    }
}

#[test]
fn offsets_begin_at_1_and_have_no_holes() {
    let mut fixture = Fixture::new(10);
    let (before, _) = fixture.subscribe(None);
    assert_eq!(before.offset, 0, "a position is handed out before the first message");
    for offset in 1..=5 {
        assert_eq!(fixture.publish(), Some(Position { offset, ..before }));
    }
}

#[test]
fn recovery_returns_all_that_was_missed_or_nothing() {
    let mut fixture = Fixture::new(3);
    let (Position { epoch, .. }, _) = fixture.subscribe(None);
    (0..5).for_each(|_| assert!(fixture.publish().is_some()));
    // The kept offsets are 3, 4 and 5.
    assert_eq!(fixture.recover(epoch, 5), Some(vec![]));
    assert_eq!(fixture.recover(epoch, 4), Some(vec![5]));
    assert_eq!(fixture.recover(epoch, 2), Some(vec![3, 4, 5]), "exactly at the border");
    assert_eq!(fixture.recover(epoch, 1), None, "one before the border");
    assert_eq!(fixture.recover(epoch, 0), None);
    assert_eq!(fixture.recover(epoch, 6), None, "no recovery continues after the last position");
    assert_eq!(fixture.recover(Epoch::new(epoch.value() ^ 1), 5), None, "another epoch");
    let any = Since { epoch: SinceEpoch::Any, offset: 4 };
    assert_eq!(fixture.subscribe(Some(any)).1, Some(vec![5]));
    let unknown = Since { epoch: SinceEpoch::Unknown, offset: 5 };
    assert_eq!(fixture.subscribe(Some(unknown)).1, None);
}

#[test]
fn an_empty_channel_recovers_from_its_beginning() {
    let mut fixture = Fixture::new(3);
    let any = Since { epoch: SinceEpoch::Any, offset: 0 };
    assert_eq!(fixture.subscribe(Some(any)).1, Some(vec![]));
}

#[test]
fn recovery_ends_where_time_or_number_has_trimmed() {
    let mut fixture = Fixture::new(1000);
    let (Position { epoch, .. }, _) = fixture.subscribe(None);
    (0..=RECOVERY_PUBLICATIONS_MAX).for_each(|_| assert!(fixture.publish().is_some()));
    assert_eq!(fixture.recover(epoch, 0), None, "more than one recovery may return");
    let most = fixture.recover(epoch, 1).map(|offsets| offsets.len());
    assert_eq!(most, Some(RECOVERY_PUBLICATIONS_MAX));
    fixture.wait(TTL);
    assert_eq!(fixture.recover(epoch, 300), None, "the missed one has expired");
    assert_eq!(fixture.recover(epoch, 301), Some(vec![]), "the position has not");
}

#[test]
fn recovery_returns_no_more_bytes_than_fit_a_frame() {
    let mut fixture = Fixture::new(1000);
    let (Position { epoch, .. }, _) = fixture.subscribe(None);
    (0..3).for_each(|_| {
        assert!(fixture.publish_bytes(RECOVERY_BYTES_MAX / 3, HistoryUse::Keep).is_some())
    });
    assert_eq!(
        fixture.recover(epoch, 0),
        None,
        "three publications and their overhead are too long"
    );
    assert_eq!(fixture.recover(epoch, 1), Some(vec![2, 3]));
}

#[test]
fn what_skips_the_history_has_no_place_in_it() {
    let mut fixture = Fixture::new(10);
    let (Position { epoch, .. }, _) = fixture.subscribe(None);
    assert_eq!(fixture.publish().map(|position| position.offset), Some(1));
    assert_eq!(fixture.publish_bytes(2, HistoryUse::Skip), None);
    assert_eq!(fixture.publish().map(|position| position.offset), Some(2));
    assert_eq!(fixture.recover(epoch, 0), Some(vec![1, 2]));
}

#[test]
fn a_page_of_history_is_what_was_asked_for() {
    let mut fixture = Fixture::new(10);
    let (Position { epoch, .. }, _) = fixture.subscribe(None);
    (0..5).for_each(|_| assert!(fixture.publish().is_some()));
    let since = |offset| Some(Since { epoch: SinceEpoch::Exactly(epoch), offset });
    let page = |limit, since, reverse| HistoryPage { limit, since, reverse };
    for (asked, expected) in [
        (page(0, None, false), vec![]),
        (page(-1, None, false), vec![1, 2, 3, 4, 5]),
        (page(2, None, false), vec![1, 2]),
        (page(2, None, true), vec![5, 4]),
        (page(-1, since(3), false), vec![4, 5]),
        (page(-1, since(3), true), vec![2, 1]),
        (page(-1, since(9), false), vec![]),
        (page(-1, since(u64::MAX), false), vec![]),
        (page(-1, since(9), true), vec![5, 4, 3, 2, 1]),
    ] {
        assert_eq!(fixture.page(asked), Ok(expected), "{asked:?}");
    }
    let other = Some(Since { epoch: SinceEpoch::Unknown, offset: 1 });
    let refused = fixture.page(page(-1, other, false));
    assert_eq!(refused, Err(ClientError::UnrecoverablePosition));
    assert_eq!(fixture.page(page(-1, since(0), true)), Err(ClientError::BadRequest));
}

#[test]
fn a_history_without_room_drops_its_oldest_and_keeps_its_position() {
    let cost = Publication {
        data: vec![0; 1000].into(),
        offset: 1,
        publisher: None,
        tags: Box::default(),
        accepted: Moment::default(),
    }
    .cost_bytes();
    let bytes_max = 3 * cost;
    let mut fixture = Fixture::with_bytes(100, bytes_max);
    let (Position { epoch, .. }, _) = fixture.subscribe(None);
    for offset in 1..=10 {
        let position = fixture.publish_bytes(1000, HistoryUse::Keep);
        assert_eq!(position, Some(Position { epoch, offset }));
        assert!(fixture.homes.bytes() <= bytes_max);
    }
    assert_eq!(fixture.recover(epoch, 7), Some(vec![8, 9, 10]));
    assert_eq!(fixture.recover(epoch, 6), None);
}

#[test]
fn a_channel_is_forgotten_when_nobody_listens_and_nothing_is_kept() {
    let mut fixture = Fixture::new(10);
    let (first, _) = fixture.subscribe(None);
    assert!(fixture.publish().is_some());
    fixture.leave();
    fixture.wait(TTL);
    fixture.wait(CHANNEL_META_TTL - Duration::from_secs(1));
    assert!(fixture.homes.bytes() > CHANNEL_POSITION_BYTES, "its position is charged");
    assert_eq!(fixture.homes.count(), 1, "its position is kept for a while");
    assert_eq!(fixture.recover(first.epoch, 1), Some(vec![]));
    fixture.leave();
    fixture.wait(CHANNEL_META_TTL);
    assert_eq!((fixture.homes.count(), fixture.homes.bytes()), (0, 0));
    let (second, _) = fixture.subscribe(None);
    assert_ne!(second.epoch, first.epoch, "the new channel has another epoch");
}

#[test]
fn a_channel_without_history_is_forgotten_with_its_last_listener() {
    let mut fixture = Fixture::new(0);
    assert_eq!(fixture.publish(), None);
    assert_eq!(fixture.homes.count(), 0, "nobody listens");
    fixture.subscribe(None);
    assert!(fixture.homes.is_interested("c", SHARD));
    assert_eq!(fixture.publish(), None);
    fixture.leave();
    assert_eq!((fixture.homes.count(), fixture.homes.bytes()), (0, 0));
}

#[test]
fn a_channel_with_listeners_is_never_forgotten() {
    let mut fixture = Fixture::with_bytes(10, 0);
    let (first, _) = fixture.subscribe(None);
    (0..10).for_each(|_| assert!(fixture.publish().is_some()));
    fixture.wait(CHANNEL_META_TTL * 2);
    assert_eq!(fixture.subscribe(None).0, Position { offset: 10, ..first });
}

#[test]
fn removing_a_history_keeps_the_position() {
    let mut fixture = Fixture::new(10);
    let (Position { epoch, .. }, _) = fixture.subscribe(None);
    (0..3).for_each(|_| assert!(fixture.publish().is_some()));
    fixture.homes.history_remove(fixture.now, &fixture.name.clone());
    assert_eq!(fixture.recover(epoch, 3), Some(vec![]));
    assert_eq!(fixture.recover(epoch, 2), None);
    assert_eq!(fixture.publish(), Some(Position { epoch, offset: 4 }));
    assert_eq!(fixture.recover(epoch, 3), Some(vec![4]));
}

#[test]
fn names_that_nobody_has_published_to_cost_nothing_and_drive_nothing_out() {
    let bytes_max = 1 << 10;
    let mut fixture = Fixture::with_bytes(10, bytes_max);
    let (Position { epoch, .. }, _) = fixture.subscribe(None);
    assert!(fixture.publish().is_some());
    let all = HistoryPage { limit: -1, since: None, reverse: false };
    for number in 0..100_000 {
        fixture.call(&format!("x{number}"));
        if number % 2 == 0 {
            assert_eq!(fixture.page(all), Ok(vec![]));
        } else {
            assert_eq!(fixture.subscribe(None).0.offset, 0);
            fixture.leave();
        }
        assert_eq!(fixture.homes.count(), 1, "only the channel in use is left");
    }
    fixture.call("c");
    assert_eq!(
        fixture.recover(epoch, 0),
        Some(vec![1]),
        "the history of the channel in use is complete"
    );
    assert_eq!((fixture.homes.evictions(), fixture.homes.audit()), (&[0; 3][..], 0));
}

#[test]
fn a_channel_that_is_used_again_is_kept_for_its_time_and_no_longer() {
    let mut fixture = Fixture::new(10);
    fixture.subscribe(None);
    let first = fixture.publish().expect("it has a history");
    let half = CHANNEL_META_TTL / 2;
    for _ in 0..5 {
        fixture.leave();
        fixture.wait(half);
        assert_eq!(fixture.subscribe(None).0, first);
    }
    fixture.leave();
    (0..3).for_each(|_| fixture.wait(CHANNEL_META_TTL));
    assert_eq!((fixture.homes.count(), fixture.homes.bytes()), (0, 0));
}

#[test]
fn an_unverified_channel_is_asked_for_once_and_again_only_after_it_was_known() {
    let mut fixture = Fixture::new(10);
    let (top, _) = fixture.subscribe(None);
    let name = fixture.name.clone();
    assert_eq!(fixture.lose_all(), ["c"]);
    assert!(fixture.lose_all().is_empty(), "otherwise a queue would grow without limit");
    assert!(!fixture.homes.set_unverified(&name));
    fixture.homes.locate(Resolved { name: &name, namespace: &fixture.namespace }, top);
    assert!(fixture.homes.set_unverified(&name));
}

#[test]
fn channels_hear_of_a_loss_one_after_another_and_each_before_it_is_used() {
    let mut fixture = Fixture::new(10);
    for number in 0..90 {
        fixture.call(&number.to_string());
        fixture.subscribe(None);
    }
    fixture.homes.lose(0, 1);
    assert_eq!(fixture.homes.hear_some(10).len(), 10);
    let used = fixture.name.clone();
    assert!(fixture.homes.hear(&used), "the walk has not reached the channel");
    assert!(!fixture.homes.is_known(used.as_str()));
    fixture.call("new");
    fixture.subscribe(None);
    let channel = Resolved { name: &used, namespace: &fixture.namespace };
    fixture.homes.locate(channel, Position { epoch: Epoch::new(1), offset: 1 });
    let mut rest = 0;
    while fixture.homes.has_losses() {
        let heard = fixture.homes.hear_some(10);
        assert!(heard.len() <= 10);
        rest += heard.len();
    }
    assert_eq!(rest, 79);
    assert!(fixture.homes.is_known(used.as_str()), "the loss preceded the request");
    assert!(fixture.homes.is_known("new"), "it was not there");
}

#[test]
fn a_page_says_how_many_publications_did_not_fit() {
    let mut fixture = Fixture::new(10);
    for _ in 0..8 {
        fixture.publish();
    }
    let cost = fixture.channel("c").kept().history.after(0).next().map(|one| one.cost_bytes());
    let cost = cost.expect("a publication");
    for (limit, since, reverse, most, offsets, omitted) in [
        (-1, None, false, (300, cost * 3), &[1, 2, 3][..], 5),
        (-1, None, true, (300, cost * 3), &[8, 7, 6], 5),
        (4, None, false, (300, cost * 3), &[1, 2, 3], 1),
        (4, Some(6), false, (300, cost * 3), &[7, 8], 0),
        (4, Some(3), true, (300, cost), &[2], 1),
        (-1, None, false, (2, usize::MAX), &[1, 2], 6),
        (-1, None, false, (300, 1), &[1], 7),
        (0, None, false, (300, 1), &[], 0),
        (-1, Some(u64::MAX), false, (300, usize::MAX), &[], 0),
        (-1, Some(u64::MAX), true, (300, usize::MAX), &[8, 7, 6, 5, 4, 3, 2, 1], 0),
    ] {
        let since = since.map(|offset| Since { epoch: SinceEpoch::Any, offset });
        let page = HistoryPage { limit, since, reverse };
        let (publications_max, bytes_max) = most;
        let bounds = PageBounds { publications_max, bytes_max };
        let page = fixture.homes.history(fixture.now, &fixture.name, page, bounds);
        let page = page.expect("in its epoch");
        let read: Vec<u64> = page.publications.iter().map(|one| one.offset).collect();
        assert_eq!((&read[..], page.omitted), (offsets, omitted), "{limit} {since:?} {reverse}");
    }
}

#[test]
fn the_newest_come_oldest_first_and_as_many_as_there_are() {
    let mut fixture = Fixture::new(5);
    for _ in 0..8 {
        fixture.publish();
    }
    let newest = |count| {
        let newest = fixture.homes.newest(fixture.now, &fixture.name, count);
        newest.iter().map(|one| one.offset).collect::<Vec<_>>()
    };
    assert_eq!((newest(2), newest(300)), (vec![7, 8], vec![4, 5, 6, 7, 8]));
    assert!(newest(0).is_empty());
    assert!(fixture.homes.newest(fixture.now, &ChannelName::new("other"), 3).is_empty());
}
