//! Records, entries and replies can be read again after they were written, and hostile ones are
//! refused. The engine answers, gives up and starts over as its callers expect.

use std::sync::Arc;
use std::time::Duration;

use super::entry::{Entry, EntryId, Item};
use super::{
    Append, AppendFailed, Appended, Appending, Call, Durable, Engine, Fenced, Keys, Look, Offset,
    Once, Options, Outcome, Probed, Renewal, Reply, RunId, Tail, Trouble, channel_epoch, record,
    stream_of,
};
use crate::channel::{ChannelName, HistoryUse, Publication, Publisher};
use crate::ids::{ClientId, Moment, Position};
use crate::limits::{
    BUS_APART_MAX, BUS_LAG_MAX, BUS_PATIENCE, BUS_PROBE_AGAIN, BUS_PUBLISH_DEADLINE,
    BUS_RENEWAL_INTERVAL,
};
use crate::mesh::{
    Asker, HomeMap, Inbox, Lane, Outbound, Publish, ShardLane, ShardMail, Ticket, ToControl, Wake,
};
use crate::reason::ClientError;
use crate::secret::NodeSecret;
use crate::settings::Settings;

fn publication() -> Publication {
    Publication {
        data: Box::from(&b"{\"a\":1}"[..]),
        offset: 0,
        publisher: Some(Box::new(Publisher {
            user: Box::from("ann"),
            client: ClientId::from_raw(7),
        })),
        tags: Box::from([(Box::from("k"), Box::from("v"))]),
        accepted: Moment::default(),
    }
}

fn entry(bases: &str, records: Vec<u8>) -> Entry {
    let id = EntryId { epoch: 100, number: 3 };
    Entry { id, appended_ms: 1, bases: bases.as_bytes().to_vec(), records }
}

fn places(entry: &Entry) -> Option<Vec<(String, u64)>> {
    let items = entry.items(&Settings::default().channel.namespaces, Moment::default()).ok()?;
    let place = |item| match item {
        Item::Publication { channel, publication, .. } => {
            (channel.as_str().to_owned(), publication.offset)
        }
        Item::RemoveHistory { channel } => (format!("-{}", channel.as_str()), 0),
    };
    Some(items.into_iter().map(place).collect())
}

#[test]
fn an_entry_gives_each_channel_its_own_offsets() {
    let mut records = record::encode("a", &publication(), Offset::Next);
    records.extend(record::encode("b", &publication(), Offset::Next));
    records.extend(record::encode("a", &publication(), Offset::None));
    records.extend(record::encode("a", &publication(), Offset::Next));
    records.extend(record::encode_remove_history("b"));
    let read = entry("5:10 5:0", records);
    let expected = [("a", 11), ("b", 1), ("a", 0), ("a", 12), ("-b", 0)];
    let expected: Vec<_> = expected.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
    assert_eq!(places(&read), Some(expected));
    let items = read.items(&Settings::default().channel.namespaces, Moment::default());
    let Some(Item::Publication { epoch, publication: one, .. }) =
        items.expect("well formed").into_iter().next()
    else {
        panic!("a publication was written")
    };
    assert_eq!(epoch, channel_epoch(100, 5));
    assert_eq!(*one, Publication { offset: 11, ..publication() });
}

#[test]
fn an_entry_that_no_node_wrote_is_refused() {
    let good = record::encode("a", &publication(), Offset::Next);
    assert!(places(&entry("5:10", good.clone())).is_some());
    assert_eq!(places(&entry("", good.clone())), None, "no base");
    assert_eq!(places(&entry("5", good.clone())), None);
    assert_eq!(places(&entry("5:18446744073709551615", good.clone())), None, "overflow");
    for end in 1..good.len() {
        assert_eq!(places(&entry("5:10", good[..end].to_vec())), None, "cut at {end}");
    }
    let bad = Publication { data: Box::from(&b"{"[..]), ..publication() };
    assert_eq!(places(&entry("5:10", record::encode("a", &bad, Offset::Next))), None, "no JSON");
    let mut unknown = good;
    unknown[0] = 9;
    assert_eq!(places(&entry("5:10", unknown)), None);
}

fn appending(channel: &str, offset: Offset, once: Once) -> Appending {
    let (channel, record) = (ChannelName::new(channel), Arc::from(&b"record"[..]));
    Appending { channel, offset, once, record, durable: Durable::None }
}

#[test]
fn the_answer_to_a_batch_gives_every_publication_its_position() {
    let one = appending;
    let durable = Durable::Keep { size: 9, ttl: Duration::from_secs(2) };
    let keep = |appending| Appending { durable, ..appending };
    let append = Append {
        stream: 2,
        publisher: 255,
        number: 4,
        epoch: 70,
        seen: 3,
        again: Some(2),
        publications: vec![
            keep(one("a", Offset::Next, Once::Never)),
            one("b", Offset::Next, Once::Key("k".into())),
            Appending { durable: Durable::Forget, ..one("b", Offset::None, Once::Never) },
            keep(one("a", Offset::Next, Once::Never)),
        ],
    };
    let (keys, args) = append.keys_and_args(&Keys::new("x"), 1000);
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).expect("names are text");
    let names: Vec<String> = keys.iter().map(text).collect();
    let places = ["x:{2}:p:00000000000000ff", "x:{2}:places", "x:{2}:silent"];
    assert_eq!(names[3..6], places);
    assert_eq!(names[6..], ["x:{2}:h:a", "x:{2}:i:1:b:k", "x:{2}:h:b"]);
    let args: Vec<String> = args.iter().map(text).collect();
    assert_eq!(args[7], "0=1:9:2000 2=3:0:0 3=1:9:2000 ");
    assert_eq!(args[8..13], ["70", "3", "2", "a", "b"]);
    assert_eq!(args[13..19], ["1", "0", "record", "2", "2", "record"]);
    let bytes = |text: &str| Reply::Bytes(text.as_bytes().to_vec());
    let answer = Reply::List(vec![
        bytes("ok"),
        bytes("100"),
        bytes("7"),
        bytes("1=5:10"),
        bytes("1=90:5:3"),
    ]);
    let position = |epoch, offset| Some(Position { epoch: channel_epoch(epoch, 5), offset });
    let appended = append.answer(&answer).expect("an answer");
    assert_eq!(appended.positions, [position(100, 11), position(90, 3), None, position(100, 12)]);
    let hostile = Reply::List(vec![bytes("ok"), bytes("x"), Reply::Nil, bytes("9=1:1"), bytes("")]);
    assert_eq!(append.answer(&hostile), None);
}

#[test]
fn a_place_in_an_ingested_stream_stands_beside_the_key() {
    let once = |number, key: Option<&str>| Once::Ingested {
        stream: "news".into(),
        place: (5, 6, number),
        key: key.map(Box::from),
    };
    let one = |once| appending("a", Offset::Next, once);
    let publications = vec![one(once(0, None)), one(once(1, Some("k"))), one(Once::Never)];
    let append = Append {
        stream: 0,
        publisher: 1,
        number: 1,
        epoch: 70,
        seen: 0,
        again: None,
        publications,
    };
    let (keys, args) = append.keys_and_args(&Keys::new("x"), 1000);
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).expect("names are text");
    assert_eq!(keys.last().map(text).as_deref(), Some("x:{0}:i:1:a:k"));
    let args: Vec<String> = args.iter().map(text).collect();
    assert_eq!(
        [&args[6], &args[10], &args[13], &args[16], &args[19]],
        ["news", "", "i5-6-0:0", "i5-6-1:1", "0"]
    );
    let bytes = |text: &str| Reply::Bytes(text.as_bytes().to_vec());
    let parts = ["ok", "100", "7", "1=5:10", "0=- 1=90:5:3"].map(bytes);
    let appended = append.answer(&Reply::List(parts.to_vec())).expect("an answer");
    assert_eq!(appended.repeats, [true, true, false]);
    let top = Position { epoch: channel_epoch(100, 5), offset: 11 };
    assert_eq!((appended.positions[0], appended.positions[2]), (None, Some(top)));
}

/// A waker that wakes nothing, because no thread sleeps.
#[derive(Debug)]
struct Awake;

impl Wake for Awake {
    fn wake(&self) {}
}

/// Returns a bus with one stream, and the inboxes of its shard and of control.
fn engine() -> (Engine, (Inbox<ShardMail>, Inbox<ToControl>)) {
    let (shard_inbox, shard) = Inbox::new(8);
    let (control_inbox, control) = Inbox::new(8);
    let shards = vec![ShardLane::new(shard, Box::new(Awake))];
    let outbound = Outbound::new(shards, Lane::new(control, Box::new(Awake)), None);
    let mut settings = Settings::default();
    settings.redis.streams = 1;
    let options = Options {
        settings: Arc::new(settings),
        home_map: HomeMap::new(&NodeSecret::new([1; 16]), 1),
        seed: 1,
    };
    (Engine::new(options, outbound, Arc::default()), (shard_inbox, control_inbox))
}

/// Returns the reply to a fence from the process `run`, whose stream is at `id`.
fn fenced(id: EntryId, run: RunId) -> Fenced {
    Fenced { id, before: None, run }
}

/// Connects the engine to the process `run`, which has the stream at `at`.
fn connect(engine: &mut Engine, now: Moment, (at, run): (EntryId, RunId)) {
    engine.on_up(now, vec![vec![0]]);
    assert!(matches!(engine.next_call(now), Some(Call::Fence { .. })));
    engine.on_outcome(now, Outcome::Fenced(0, Some(fenced(at, run))));
    assert!(matches!(engine.next_call(now), Some(Call::Probe(_))));
    engine.on_reader(0, Some(run));
}

fn ask(engine: &mut Engine, now: Moment, ticket: u64, once: Once) {
    let (asker, channel) = (Asker::Bridge(Ticket(ticket)), ChannelName::new("a"));
    let (history, idempotency_key) = (HistoryUse::Keep, None);
    let publication = publication();
    let publish = Publish { channel, publication, history, idempotency_key, asker };
    engine.publish(now, publish, once);
}

const AT: EntryId = EntryId { epoch: 9, number: 0 };
const RUN: RunId = RunId::new(1);

fn probed(run: RunId, tail: EntryId) -> Outcome {
    Outcome::Probed(0, Ok(Probed { run, tail, policy: String::new() }))
}

#[test]
fn what_was_ingested_is_done_once_the_reader_has_passed_it() {
    let ((mut engine, _inboxes), now) = (engine(), Moment::default());
    connect(&mut engine, now, (AT, RUN));
    let one = EntryId { number: 1, ..AT };
    let append = |engine: &mut Engine, ticket, at| {
        let place = (ticket, 0, 0);
        ask(engine, now, ticket, Once::Ingested { stream: "s".into(), place, key: None });
        assert!(matches!(engine.next_call(now), Some(Call::Append(_))));
        let (positions, repeats) = (vec![None], vec![false]);
        engine.on_outcome(now, Outcome::Appended(0, Ok(Appended { at, positions, repeats })));
    };
    append(&mut engine, 1, one);
    assert!(engine.take_bridge_answers().is_empty(), "it has not been read");
    let mut entry = entry("", Vec::new());
    entry.id = one;
    engine.on_entries(now, 0, &[entry]);
    assert!(matches!(engine.take_bridge_answers()[..], [(Ticket(1), Ok(_))]));
    append(&mut engine, 2, EntryId { number: 2, ..AT });
    engine.on_fenced(0, &fenced(EntryId { epoch: 10, number: 0 }, RUN));
    let unknown = Err(ClientError::ResultUnknown);
    assert_eq!(engine.take_bridge_answers(), [(Ticket(2), unknown)]);
}

#[test]
fn only_the_first_publication_waits_for_a_server_that_does_not_come_back() {
    let ((mut engine, _inboxes), begin) = (engine(), Moment::default());
    connect(&mut engine, begin, (AT, RUN));
    ask(&mut engine, begin, 1, Once::Never);
    assert!(matches!(engine.next_call(begin), Some(Call::Append(_))));
    let deadline = begin.after(BUS_PUBLISH_DEADLINE);
    // The call ends so late that the patience with the server ends after the deadline.
    engine.on_down(begin.after(BUS_PUBLISH_DEADLINE - BUS_PATIENCE));
    engine.on_tick(deadline);
    let unknown = Err(ClientError::ResultUnknown);
    assert_eq!(engine.take_bridge_answers(), [(Ticket(1), unknown)]);
    ask(&mut engine, deadline, 2, Once::Never);
    let refused = Err(ClientError::BusUnavailable);
    assert_eq!(
        engine.take_bridge_answers(),
        [(Ticket(2), refused)],
        "the second publication fails immediately"
    );
    connect(&mut engine, deadline, (AT, RUN));
    engine.on_down(deadline);
    ask(&mut engine, deadline, 3, Once::Never);
    assert_eq!(engine.take_bridge_answers(), [], "a new connection restarts the time");
}

#[test]
fn a_server_that_refuses_two_probes_makes_publishers_wait_no_more() {
    let ((mut engine, _inboxes), mut now) = (engine(), Moment::default());
    connect(&mut engine, now, (AT, RUN));
    ask(&mut engine, now, 1, Once::Never);
    let refused = || Outcome::Probed(0, Err(AppendFailed::Refused("OOM".to_owned())));
    engine.on_outcome(now, refused());
    assert!(
        engine.take_bridge_answers().is_empty() && engine.trouble(now).is_none(),
        "one refusal is not enough"
    );
    now = now.after(BUS_PROBE_AGAIN);
    assert!(
        matches!(engine.next_call(now), Some(Call::Fence { .. })),
        "the fence identifies the refusing server"
    );
    engine.on_outcome(now, Outcome::Fenced(0, Some(fenced(AT, RUN))));
    assert!(matches!(engine.next_call(now), Some(Call::Probe(_))));
    engine.on_outcome(now, refused());
    ask(&mut engine, now, 2, Once::Never);
    let tickets = |engine: &mut Engine| -> Vec<u64> {
        engine.take_bridge_answers().into_iter().map(|(ticket, _)| ticket.0).collect()
    };
    assert_eq!(tickets(&mut engine), [1, 2]);
    assert_eq!(engine.trouble(now), Some(Trouble::Refusing));
    engine.on_down(now);
    connect(&mut engine, now, (AT, RUN));
    engine.on_outcome(now, probed(RUN, AT));
    assert_eq!(engine.trouble(now), Some(Trouble::Refusing), "one success is not enough either");
    engine.on_outcome(now, probed(RUN, AT));
    assert_eq!(engine.trouble(now), None);
    ask(&mut engine, now, 3, Once::Never);
    assert!(tickets(&mut engine).is_empty() && engine.next_call(now).is_some());
}

#[test]
fn what_is_turned_away_after_its_server_was_found_to_refuse_waits_no_more() {
    let ((mut engine, _inboxes), now) = (engine(), Moment::default());
    connect(&mut engine, now, (AT, RUN));
    let refused = || AppendFailed::WrongServer("NOREPLICAS".to_owned());
    engine.on_outcome(now, Outcome::Probed(0, Err(refused())));
    engine.on_down(now);
    connect(&mut engine, now, (AT, RUN));
    ask(&mut engine, now, 1, Once::Never);
    assert!(matches!(engine.next_call(now), Some(Call::Append(_))));
    engine.on_outcome(now, Outcome::Probed(0, Err(refused())));
    assert!(engine.take_bridge_answers().is_empty(), "it may be in the stream");
    engine.on_outcome(now, Outcome::Appended(0, Err(refused())));
    let certain = Err(ClientError::BusUnavailable);
    assert_eq!(engine.take_bridge_answers(), [(Ticket(1), certain)]);
}

#[test]
fn a_server_that_takes_no_stream_over_makes_nobody_wait_longer() {
    let ((mut engine, _inboxes), mut now) = (engine(), Moment::default());
    connect(&mut engine, now, (AT, RUN));
    engine.on_down(now);
    ask(&mut engine, now, 1, Once::Never);
    assert!(engine.take_bridge_answers().is_empty(), "Redis may be reachable soon");
    for _ in 0..3 {
        now = now.after(BUS_PATIENCE / 2);
        engine.on_up(now, vec![vec![0]]);
        assert!(matches!(engine.next_call(now), Some(Call::Fence { .. })));
        engine.on_outcome(now, Outcome::Fenced(0, None));
        engine.on_down(now);
    }
    ask(&mut engine, now, 2, Once::Never);
    assert!(matches!(engine.take_bridge_answers()[..], [(Ticket(2), Err(_))]));
}

#[test]
fn connections_to_different_servers_are_made_anew_and_not_soon_again() {
    let ((mut engine, _inboxes), mut now) = (engine(), Moment::default());
    connect(&mut engine, now, (AT, RUN));
    engine.on_reader(0, Some(RunId::new(2)));
    engine.on_tick(now);
    assert_eq!(engine.take_renewal(now), None, "connections may switch one after the other");
    now = now.after(BUS_APART_MAX);
    engine.on_tick(now);
    assert_eq!(engine.trouble(now), Some(Trouble::Apart));
    assert_eq!(engine.take_renewal(now), Some(Renewal::Apart));
    let later = now.after(BUS_APART_MAX * 2);
    engine.on_tick(now);
    engine.on_tick(later);
    assert_eq!(engine.take_renewal(later), None);
    let later = now.after(BUS_RENEWAL_INTERVAL * 3 / 2);
    assert_eq!(engine.take_renewal(later), Some(Renewal::Apart));
}

#[test]
fn what_was_acknowledged_and_is_not_where_the_reader_looks_is_late_and_absent() {
    let ((mut engine, _inboxes), now) = (engine(), Moment::default());
    connect(&mut engine, now, (AT, RUN));
    engine.on_outcome(now, probed(RUN, EntryId { number: 5, ..AT }));
    let late = now.after(BUS_LAG_MAX + BUS_PROBE_AGAIN);
    engine.on_tick(late);
    assert_eq!(engine.trouble(late), Some(Trouble::Late));
    engine.on_tail(late, 0, Look { asked: late, tail: Tail(Some(EntryId { number: 5, ..AT })) });
    assert_eq!(
        engine.take_renewal(late),
        None,
        "the server has the entry, and only the reader is slow"
    );
    engine.on_tail(late, 0, Look { asked: now, tail: Tail(Some(AT)) });
    assert_eq!(engine.take_renewal(late), None, "the end was requested earlier");
    engine.on_tail(late, 0, Look { asked: late, tail: Tail(Some(AT)) });
    assert_eq!(engine.take_renewal(late), Some(Renewal::Absent));
}

#[test]
fn what_was_ingested_does_not_go_past_what_has_failed() {
    let (mut engine, _inboxes) = engine();
    let now = Moment::default();
    let ask = |engine: &mut Engine, ticket| {
        let place = (ticket, 0, 0);
        ask(engine, now, ticket, Once::Ingested { stream: "s".into(), place, key: None });
    };
    let answers = |engine: &mut Engine| -> Vec<(u64, bool)> {
        let unavailable = |result| result == Err(ClientError::BusUnavailable);
        let own = engine.take_bridge_answers().into_iter();
        own.map(|(ticket, answer)| (ticket.0, unavailable(answer))).collect()
    };
    connect(&mut engine, now, (AT, RUN));
    ask(&mut engine, 1);
    assert!(matches!(engine.next_call(now), Some(Call::Append(_))));
    ask(&mut engine, 2);
    ask(&mut engine, 3);
    let refused = Err(AppendFailed::Refused("OOM".to_owned()));
    engine.on_outcome(now, Outcome::Appended(0, refused));
    assert_eq!(answers(&mut engine), [(1, true), (2, true), (3, true)]);
    assert!(engine.next_call(now).is_none(), "no publication is left to append");
    ask(&mut engine, 1);
    let Some(Call::Append(again)) = engine.next_call(now) else { panic!("a batch waits") };
    let positions = vec![None];
    engine.on_outcome(
        now,
        Outcome::Appended(0, Ok(Appended { at: AT, positions, repeats: vec![true] })),
    );
    assert_eq!((again.publications.len(), answers(&mut engine)), (1, vec![(1, false)]));
}

#[test]
fn channels_keep_their_streams() {
    // Every Redis in use relies on this mapping, so it must not change.
    let counts = (0..800).fold([0; 8], |mut counts, index| {
        counts[stream_of(&format!("room{index:06}"), 8)] += 1;
        counts
    });
    assert!(counts.iter().all(|count| (60..140).contains(count)), "{counts:?}");
    assert_eq!(["", "news", "chat:42"].map(|name| stream_of(name, 8)), [6, 7, 7]);
    assert!((0..64).all(|index| stream_of(&format!("c{index}"), 1) == 0));
}
