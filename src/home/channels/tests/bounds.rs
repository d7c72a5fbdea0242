//! Tests of the limits of channels: number, bytes and time.

use super::*;
use crate::limits::FORGOTTEN_PER_TURN;
use crate::sys::{return_freed_memory, thread_cpu};

fn subscribe(fixture: &mut Fixture, name: &str) -> Result<Position, ClientError> {
    fixture.call(name);
    let channel = Resolved { name: &fixture.name, namespace: &fixture.namespace };
    let granted = fixture.homes.subscribe(fixture.now, channel, SHARD, None);
    granted.map(|granted| granted.top)
}

#[test]
fn one_channel_more_than_may_be_in_use_is_refused_and_leaves_nothing_behind() {
    let mut fixture = Fixture::new(10);
    for number in 0..CHANNELS_MAX {
        assert!(subscribe(&mut fixture, &format!("c{number}")).is_ok());
    }
    assert_eq!(subscribe(&mut fixture, "more"), Err(ClientError::NodeChannels));
    assert_eq!((fixture.homes.count(), fixture.homes.in_use()), (CHANNELS_MAX, CHANNELS_MAX));
    let other = ShardId::new(4);
    fixture.call("c0");
    let channel = Resolved { name: &fixture.name, namespace: &fixture.namespace };
    assert!(fixture.homes.subscribe(fixture.now, channel, other, None).is_ok(), "it is in use");
    fixture.leave();
    assert_eq!(subscribe(&mut fixture, "more"), Err(ClientError::NodeChannels));
    fixture.call("c1");
    assert!(fixture.publish().is_some(), "the existing channel still works");
    fixture.leave();
    assert!(subscribe(&mut fixture, "more").is_ok());
    assert_eq!(fixture.homes.audit(), 0);
}

#[test]
fn channels_in_use_are_not_charged_to_histories_whatever_they_are_called() {
    let mut fixture = Fixture::with_bytes(20, 20_000);
    for _ in 0..20 {
        assert!(fixture.publish().is_some());
    }
    let before = fixture.homes.bytes();
    for number in 0..CHANNELS_MAX {
        assert!(subscribe(&mut fixture, &format!("{number:0>255}")).is_ok());
    }
    assert_eq!(fixture.homes.bytes(), before);
    fixture.call("c");
    let all = HistoryPage { limit: -1, since: None, reverse: false };
    assert_eq!(fixture.page(all).map(|offsets| offsets.len()), Ok(20));
    assert_eq!(fixture.homes.evictions(), [0; 3]);
}

#[test]
fn what_is_dropped_for_want_of_bytes_is_counted() {
    let mut fixture = Fixture::with_bytes(10, 3_000);
    for number in 0..100 {
        fixture.call(&format!("c{number}"));
        assert!(fixture.publish_bytes(500, HistoryUse::Keep).is_some());
        assert_eq!(fixture.homes.audit(), 0);
    }
    let left = fixture.homes.totals.publications as u64;
    let idle = fixture.homes.count() as u64 - left;
    let evictions = fixture.homes.evictions();
    assert_eq!(evictions[Eviction::Bytes as usize], 100 - left);
    assert_eq!(evictions[Eviction::Position as usize], 100 - left - idle);
    fixture.lose_all();
    assert_eq!(fixture.homes.evictions()[Eviction::Unverified as usize], left);
}

/// The publications of 300,000 channels expire. They are removed in bounded steps, one in each
/// turn, so it takes many turns and none of them is long. Time is that of the thread, because other
/// processes may use the processor.
#[test]
fn what_has_expired_is_freed_in_bounded_steps() {
    const CHANNELS: usize = 300_000;
    const TURN_MAX: Duration = Duration::from_millis(10);
    const ALL_MAX: Duration = Duration::from_secs(3);
    return_freed_memory();
    let mut fixture = Fixture::with_bytes(10, 1 << 30);
    for number in 0..CHANNELS {
        fixture.call(&number.to_string());
        assert!(fixture.publish().is_some());
    }
    fixture.now = fixture.now.after(TTL + Tick::PERIOD);
    let (mut turns, mut longest, began) = (1, Duration::ZERO, thread_cpu());
    loop {
        let before = fixture.homes.totals.publications;
        let turn = thread_cpu();
        let more = fixture.homes.forget_some(fixture.now, FORGOTTEN_PER_TURN);
        longest = longest.max(thread_cpu() - turn);
        assert!(before - fixture.homes.totals.publications <= FORGOTTEN_PER_TURN, "a long turn");
        if !more {
            break;
        }
        turns += 1;
    }
    let all = thread_cpu() - began;
    assert!(longest < TURN_MAX && all < ALL_MAX, "longest {longest:?}, all {all:?}");
    assert_eq!(fixture.homes.totals.publications, 0);
    let stored = fixture.homes.stored.len();
    assert!(stored <= 4096, "{stored} stale entries are left");
    assert!(turns <= 2 * CHANNELS / FORGOTTEN_PER_TURN + 2, "{turns} turns");
    assert_eq!((fixture.homes.evictions(), fixture.homes.audit()), (&[0; 3][..], 0));
}

#[test]
fn publishing_into_full_histories_waits_for_nothing_to_expire() {
    let bytes_max = 1 << 20;
    let mut fixture = Fixture::with_bytes(10, bytes_max);
    for number in 0..50_000 {
        // No turn removes expired publications here.
        fixture.now = fixture.now.after(Duration::from_millis(1));
        fixture.call(&(number % 20_000).to_string());
        let position = fixture.publish();
        assert!(position.is_some());
        assert!(fixture.homes.bytes() <= bytes_max);
        let newest = HistoryPage { limit: 1, since: None, reverse: true };
        assert_eq!(fixture.page(newest).ok(), position.map(|position| vec![position.offset]));
        let live = fixture.homes.totals.publications;
        assert!(fixture.homes.stored.len() <= 3 * live + 4096, "{live} live");
    }
    assert_eq!(fixture.homes.audit(), 0);
}

#[test]
fn one_channel_with_a_long_history_expires_in_bounded_steps() {
    let mut fixture = Fixture::with_bytes(10_000, 1 << 30);
    let (Position { epoch, .. }, _) = fixture.subscribe(None);
    (0..10_000).for_each(|_| assert!(fixture.publish().is_some()));
    fixture.now = fixture.now.after(TTL);
    assert_eq!(fixture.recover(epoch, 9_999), None, "expired publications are not recovered");
    assert!(fixture.homes.totals.publications > 9_000, "most of them are still in memory");
    let all = HistoryPage { limit: -1, since: None, reverse: false };
    assert_eq!(fixture.page(all), Ok(vec![]));
    assert_eq!(fixture.publish(), Some(Position { epoch, offset: 10_001 }));
    assert_eq!(fixture.page(all), Ok(vec![10_001]));
    assert_eq!(fixture.recover(epoch, 10_000), Some(vec![10_001]));
}
