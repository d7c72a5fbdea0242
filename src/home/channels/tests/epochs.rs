//! Tests of positions after all subscribers of their channel have left.

use super::*;

#[test]
fn a_channel_that_nobody_has_published_to_costs_nothing_and_stands_where_it_stood() {
    let mut fixture = Fixture::new(10);
    let (seen, _) = fixture.subscribe(None);
    assert_eq!(seen.offset, 0);
    fixture.leave();
    assert_eq!((fixture.homes.count(), fixture.homes.bytes()), (0, 0));
    assert_eq!(fixture.recover(seen.epoch, 0), Some(vec![]), "nothing was missed");
    fixture.leave();
    (0..2).for_each(|_| assert!(fixture.publish().is_some()));
    assert_eq!(fixture.recover(seen.epoch, 0), Some(vec![1, 2]));
}

#[test]
fn a_page_of_history_shows_the_position_that_a_subscription_shows() {
    let mut fixture = Fixture::new(10);
    let page = HistoryPage { limit: 0, since: None, reverse: false };
    let bounds = PageBounds { publications_max: 1, bytes_max: 1 };
    let top = fixture.homes.history(fixture.now, &fixture.name, page, bounds).map(|page| page.top);
    assert_eq!(fixture.homes.count(), 0, "a request creates no channel");
    assert_eq!(top.ok(), Some(fixture.subscribe(None).0));
}

#[test]
fn a_position_is_true_beside_ten_million_names_that_come_and_go() {
    let mut fixture = Fixture::new(10);
    let (seen, _) = fixture.subscribe(None);
    fixture.leave();
    let mut name = *b"invented 0000000";
    for number in 0..10_000_000_u64 {
        name[9..].iter_mut().rev().fold(number, |rest, digit| {
            *digit = b'0' + (rest % 10) as u8;
            rest / 10
        });
        fixture.call(std::str::from_utf8(&name).expect("ASCII"));
        fixture.subscribe(None);
        fixture.leave();
    }
    assert_eq!((fixture.homes.count(), fixture.homes.bytes()), (0, 0));
    fixture.call("c");
    (0..2).for_each(|_| assert!(fixture.publish().is_some()));
    assert_eq!(fixture.recover(seen.epoch, 0), Some(vec![1, 2]));
}

#[test]
fn a_channel_that_was_forgotten_with_publications_begins_in_another_epoch() {
    let mut fixture = Fixture::new(10);
    let first = fixture.publish().expect("it has a history");
    fixture.wait(TTL);
    fixture.wait(CHANNEL_META_TTL + Duration::from_secs(1));
    assert_eq!(fixture.homes.count(), 0);
    let beginning = Since { epoch: SinceEpoch::Exactly(first.epoch), offset: 0 };
    let (second, recovered) = fixture.subscribe(Some(beginning));
    assert_ne!(second.epoch, first.epoch);
    assert_eq!((second.offset, recovered), (0, None), "the gap is reported");
}

#[test]
fn whoever_waits_in_a_channel_keeps_its_epoch_when_others_are_forgotten() {
    let mut fixture = Fixture::new(10);
    let (seen, _) = fixture.subscribe(None);
    for number in 0..1000 {
        fixture.call(&format!("x{number}"));
        assert!(fixture.publish().is_some());
    }
    fixture.wait(TTL);
    fixture.wait(CHANNEL_META_TTL + Duration::from_secs(1));
    assert_eq!(fixture.homes.count(), 1);
    fixture.call("c");
    assert_eq!(fixture.subscribe(None).0, seen);
    assert_eq!(fixture.publish(), Some(Position { offset: 1, ..seen }));
}

/// Channels are removed in any order. No position may belong to two publications, and a recovery
/// returns all publications after its position.
#[test]
fn no_position_stands_for_two_publications() {
    come_and_go();
}

#[test]
#[cfg(feature = "sabotage")]
fn a_channel_that_begins_again_in_an_old_epoch_is_noticed() {
    crate::sabotage::switch_on(Some(crate::sabotage::Fault::RepeatedEpoch));
    let noticed = std::panic::catch_unwind(come_and_go).is_err();
    crate::sabotage::switch_on(None);
    assert!(noticed);
}

fn come_and_go() {
    let mut fixture = Fixture::with_bytes(3, 4_000);
    let mut random = 1_u64;
    let mut published = std::collections::HashMap::<(String, u64), Vec<u64>>::new();
    let mut seen: Vec<(String, Position)> = Vec::new();
    let (mut recovered, mut refused) = (0, 0);
    for _ in 0..100_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (channel, act) = (random >> 33 & 15, random >> 40 & 15);
        fixture.call(&format!("c{channel}"));
        match act {
            0..4 => {
                let position =
                    fixture.publish_bytes(100, HistoryUse::Keep).expect("it has a history");
                let name = fixture.name.as_str().to_owned();
                let offsets = published.entry((name, position.epoch.value())).or_default();
                assert_eq!(position.offset, offsets.len() as u64 + 1, "a position was used twice");
                offsets.push(position.offset);
            }
            4..8 => {
                let (top, _) = fixture.subscribe(None);
                seen.push((fixture.name.as_str().to_owned(), top));
            }
            8..12 => fixture.leave(),
            12..15 if !seen.is_empty() => {
                // One of the last positions, because a client that returns soon usually recovers.
                let back = (random >> 50) as usize % seen.len().min(8);
                let (name, position) = seen.swap_remove(seen.len() - 1 - back);
                fixture.call(&name);
                let since = SinceEpoch::Exactly(position.epoch);
                let since = Since { epoch: since, offset: position.offset };
                let (top, found) = fixture.subscribe(Some(since));
                match found {
                    Some(found) => {
                        recovered += 1;
                        let all = published.get(&(name, position.epoch.value()));
                        let later = all.map_or(&[][..], |all| &all[position.offset as usize..]);
                        assert_eq!(found, later, "after {position:?}");
                        assert_eq!(top.offset - position.offset, found.len() as u64);
                    }
                    None => refused += 1,
                }
            }
            _ => fixture.wait(Duration::from_millis(random % 2_000)),
        }
        assert_eq!(fixture.homes.audit(), 0, "sums of charges are the counted bytes");
    }
    assert!(recovered > 1_000 && refused > 1_000, "{recovered} recovered, {refused} refused");
}
