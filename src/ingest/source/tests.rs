//! A source that is a list. The tests check which calls it gets, and in which order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use super::*;
use crate::bridge;
use crate::bus::{Appended, Call, Entry, EntryId, Fenced, Outcome, RunId};
use crate::mesh::{HomeMap, Inbox, Lane, Outbound, ShardLane, ShardMail, ToControl, Wake};
use crate::redis::Handle;
use crate::secret::NodeSecret;

/// A waker that wakes nothing, because no task sleeps.
#[derive(Debug)]
struct Awake;

impl Wake for Awake {
    fn wake(&self) {}
}

struct List<'a> {
    log: &'a RefCell<Vec<String>>,
    turns: VecDeque<Turn>,
    entries: Option<Vec<(IngestId, Fields)>>,
}

impl List<'_> {
    fn note(&self, what: String) {
        self.log.borrow_mut().push(what);
    }
}

impl Source for List<'_> {
    async fn take_turn(&mut self) -> Result<Turn, SourceError> {
        let Some(turn) = self.turns.pop_front() else { return std::future::pending().await };
        self.note(format!("{turn:?}"));
        Ok(turn)
    }

    async fn begin(&mut self) -> Result<(), SourceError> {
        self.note("begin".to_owned());
        Ok(())
    }

    async fn keep_turn(&mut self) -> Result<(), SourceError> {
        let is_over = self.log.borrow().iter().any(|line| line.starts_with("done"));
        if is_over { Err(SourceError::NotOurTurn) } else { Ok(()) }
    }

    async fn read(&mut self) -> Result<Page, SourceError> {
        Ok(self.entries.take().map_or(Page::End, Page::Entries))
    }

    async fn wait_for_news(&mut self) -> Result<(), SourceError> {
        sleep(RETRY_INTERVAL).await;
        Ok(())
    }

    fn may_acknowledge(&self) -> bool {
        true
    }

    async fn park(
        &mut self,
        id: IngestId,
        fields: Fields,
        reason: &str,
    ) -> Result<(), SourceError> {
        self.note(format!("park {id} with {} fields: {reason}", fields.len()));
        Ok(())
    }

    async fn acknowledge(&mut self, done: &[IngestId]) -> Result<(), SourceError> {
        let ids: Vec<String> = done.iter().map(IngestId::to_string).collect();
        self.note(format!("done {}", ids.join(" ")));
        Ok(())
    }
}

/// Returns a bus with one stream, and the inboxes of its shard and of control.
fn bus(settings: &Arc<Settings>) -> (Rc<Bus>, (Inbox<ShardMail>, Inbox<ToControl>)) {
    let (shard_inbox, shard) = Inbox::new(8);
    let (control_inbox, control) = Inbox::new(8);
    let shards = vec![ShardLane::new(shard, Box::new(Awake))];
    let options = bridge::Options {
        settings: Arc::clone(settings),
        redis: Rc::new(Handle::new("redis://localhost", "x", Arc::default())),
        outbound: Outbound::new(shards, Lane::new(control, Box::new(Awake)), None),
        home_map: HomeMap::new(&NodeSecret::new([1; 16]), 1),
        counters: Arc::default(),
        now: crate::sys::now,
    };
    (Rc::new(Bus::new(options)), (shard_inbox, control_inbox))
}

/// Appends the next batch, and reads it back.
async fn append(bus: &Bus) {
    let start = EntryId { epoch: 9, number: 0 };
    let run = RunId::new(1);
    bus.with_engine(|engine, now| {
        engine.on_up(now, vec![vec![0]]);
        assert!(matches!(engine.next_call(now), Some(Call::Fence { .. })));
        engine.on_outcome(now, Outcome::Fenced(0, Some(Fenced { id: start, before: None, run })));
        engine.on_reader(0, Some(run));
    });
    loop {
        let call = bus.with_engine(|engine, now| engine.next_call(now));
        if let Some(Call::Append(append)) = call {
            assert_eq!(append.publications.len(), 1);
            break;
        }
        sleep(Duration::from_millis(1)).await;
    }
    let at = EntryId { number: 1, ..start };
    let appended = Appended { at, positions: vec![None], repeats: vec![false] };
    let read = Entry { id: at, appended_ms: 1, bases: Vec::new(), records: Vec::new() };
    bus.with_engine(|engine, now| {
        engine.on_outcome(now, Outcome::Appended(0, Ok(appended)));
        engine.on_entries(now, 0, &[read]);
    });
}

#[tokio::test(start_paused = true)]
async fn entries_are_acknowledged_once_they_are_published_or_put_aside() {
    let mut settings = Settings::default();
    settings.redis.streams = 1;
    let settings = Arc::new(settings);
    let (bus, _inboxes) = bus(&settings);
    let counters: Arc<BridgeCounters> = Arc::default();
    let (name, counting) = ("list".into(), Arc::clone(&counters));
    let ingest = Ingest { name, bus: Rc::clone(&bus), settings, counters: counting };
    let fields = |pairs: &[(&str, &str)]| -> Fields {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    };
    let log = RefCell::default();
    let connect = async || {
        let good = fields(&[("channel", "a"), ("data", "1")]);
        let entries = vec![(IngestId(1, 0), good), (IngestId(2, 0), fields(&[("data", "1")]))];
        let turns = [Turn::Others, Turn::Ours, Turn::Others].into();
        Ok(List { log: &log, turns, entries: Some(entries) })
    };
    let appending = async {
        append(&bus).await;
        sleep(4 * INGEST_LEASE_LOOK).await;
    };
    tokio::select! {
        never = ingest.run(connect) => never,
        () = appending => {}
    }
    let reason = "bad request: channel is missing";
    let parked = format!("park 2-0 with 1 fields: {reason}");
    assert_eq!(*log.borrow(), ["Others", "Ours", "begin", &parked, "done 1-0 2-0", "Others"]);
    assert_eq!((counters.ingest_published.value(), counters.ingest_active.value()), (1, 0));
}
