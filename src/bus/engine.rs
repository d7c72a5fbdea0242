//! The bus of one node. It takes requests from shards and control, decides which calls to make, and
//! passes entries of the streams to the home shards.

mod publishing;
mod reading;
mod standing;

pub use standing::{Renewal, Trouble};

use std::sync::Arc;

use super::append::Once;
use super::call::{Call, Fenced, Outcome};
use super::older::OlderRequest;
use super::probe::Master;
use super::stream::StreamState;
use super::writer::{Loss, Waiter};
use super::{EntryId, stream_of};
use crate::channel::ChannelName;
use crate::ids::{Moment, Position};
use crate::limits::{
    BUS_CALLS_MAX, BUS_INGEST_SHARE, BUS_LOCATE_TIMEOUT, BUS_OLDER_CALLS_PER_TICK, BUS_PATIENCE,
    BUS_PENDING_BYTES_MAX,
};
use crate::mesh::{
    Answer, Asker, Found, HomeMap, Outbound, Published, ShardLane, Ticket, ToBus, ToControl,
    ToHome, ToShard,
};
use crate::metrics::BridgeCounters;
use crate::reason::ClientError;
use crate::settings::Settings;

/// Settings of the bus.
#[derive(Clone, Debug)]
pub struct Options {
    /// Settings of the node.
    pub settings: Arc<Settings>,
    /// Maps each channel to its home shard on this node.
    pub home_map: HomeMap,
    /// A random number that differs between processes. Identities of publishers are derived from
    /// it.
    pub seed: u64,
}

/// The state of the bus. It makes no calls itself; see the module.
#[derive(Debug)]
pub struct Engine {
    options: Options,
    streams: Vec<StreamState>,
    outbound: Outbound,
    counters: Arc<BridgeCounters>,
    random: u64,
    /// Whether calls can be made.
    up: bool,
    /// Whether a stream has been fenced on the current connection.
    taken_over: bool,
    /// Since when no calls can be made.
    down_since: Moment,
    /// Whether a publication has reached its deadline since then.
    waited_out: bool,
    /// Whether shards were told that the first window is loaded.
    loaded_announced: bool,
    calls: usize,
    /// Whether a call that reads histories is in progress.
    reading_older: bool,
    /// Number of calls that may still read histories before the next tick.
    older_calls_left: usize,
    /// The stream that comes first for the next call, so that each stream gets its turn.
    turn: usize,
    pending_bytes: usize,
    /// Answers to requests from the bridge's own thread.
    own: Vec<(Ticket, Result<Published, ClientError>)>,
    /// The servers that the writer's connection leads to.
    masters: Vec<Master>,
    /// Since when connections have led to different servers.
    apart_since: Option<Moment>,
    /// Whether a connection other than the reader's and the writer's leads to another server.
    strayed: bool,
    /// Earliest time of the next renewal of all connections.
    renewal_from: Moment,
}

impl Engine {
    /// Creates a bus that has read nothing. `outbound` has a lane for each shard, and then
    /// control's.
    pub fn new(options: Options, outbound: Outbound, counters: Arc<BridgeCounters>) -> Engine {
        let mut engine = Engine {
            streams: Vec::new(),
            outbound,
            counters,
            random: options.seed,
            up: false,
            taken_over: false,
            down_since: Moment::default(),
            waited_out: false,
            loaded_announced: false,
            calls: 0,
            reading_older: false,
            older_calls_left: BUS_OLDER_CALLS_PER_TICK,
            turn: 0,
            pending_bytes: 0,
            own: Vec::new(),
            masters: Vec::new(),
            apart_since: None,
            strayed: false,
            renewal_from: Moment::default(),
            options,
        };
        for stream in 0..engine.options.settings.redis.streams {
            let publisher = engine.fresh();
            engine.streams.push(StreamState::new(stream, publisher));
        }
        engine
    }

    /// Returns the last entry of `stream` that was read.
    pub fn cursor(&self, stream: usize) -> EntryId {
        self.streams[stream].cursor.at()
    }

    /// Whether all entries that existed at the start have been read.
    pub fn is_loaded(&self) -> bool {
        self.streams.iter().all(|state| state.cursor.is_loaded())
    }

    /// Whether an inbox was full, so that messages still wait for it.
    pub fn is_behind(&self) -> bool {
        self.outbound.is_behind()
    }

    /// Returns the entry that a server must have reached before `stream` is read or written there.
    pub fn seen(&self, stream: usize) -> EntryId {
        let lane = &self.streams[stream];
        lane.cursor.seen().max(lane.above)
    }

    /// Marks a stream as owned by another server process, so that it is fenced.
    pub fn set_unfenced(&mut self, stream: usize) {
        self.streams[stream].unfenced = true;
    }

    /// Whether calls can be made.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Whether no calls could be made for longer than [`BUS_PATIENCE`], or for the whole time of a
    /// publication. Otherwise each command of a batch would wait for a deadline of its own.
    fn is_away(&self, now: Moment) -> bool {
        !self.up && (self.waited_out || now.since(self.down_since) > BUS_PATIENCE)
    }

    /// Whether waiting publications use so little of the memory for them that ingest may add more.
    pub fn has_room(&self) -> bool {
        self.pending_bytes < BUS_PENDING_BYTES_MAX / BUS_INGEST_SHARE
    }

    /// Takes the answers to requests from the bridge's own thread.
    pub fn take_bridge_answers(&mut self) -> Vec<(Ticket, Result<Published, ClientError>)> {
        std::mem::take(&mut self.own)
    }

    /// Hands gathered messages to the other threads.
    pub fn flush(&mut self) {
        let dropped = self.outbound.flush();
        self.counters.dropped.add(dropped);
        if dropped > 0 {
            // A position from before the loss would hide from a home that it missed publications.
            for state in &mut self.streams {
                state.locator.discard_before(state.cursor.at());
            }
        }
        self.counters.pending_bytes.set(self.pending_bytes as u64);
    }

    /// Returns the stream of a channel.
    fn stream_of(&self, channel: &str) -> usize {
        stream_of(channel, self.options.settings.redis.streams)
    }

    /// Sends a message to control.
    pub fn send_to_control(&mut self, message: ToControl) {
        self.outbound.control().push(message);
    }

    /// Handles a message from a shard or from control.
    pub fn on_message(&mut self, now: Moment, message: ToBus) {
        match message {
            ToBus::Publish(publish) => self.publish(now, *publish, Once::Never),
            ToBus::HistoryRemove { channel, ticket } => self.remove_history(now, channel, ticket),
            ToBus::Locate { channel } => {
                let stream = self.stream_of(channel.as_str());
                let state = &mut self.streams[stream];
                if !state.locator.want(now, channel.clone()) {
                    self.send_located(channel, None);
                }
            }
            ToBus::Repeated { channel } => self.end_epoch(channel.as_str()),
            ToBus::ReadOlder { channel, before } => {
                let away = self.is_away(now);
                let stream = self.stream_of(channel.as_str());
                let state = &mut self.streams[stream];
                let namespaces = &self.options.settings.channel.namespaces;
                let namespace = namespaces.resolve(channel.as_str()).map(Arc::clone);
                // While Redis is unreachable, a read would only time out, so the request is
                // answered immediately.
                let wanted = namespace.is_ok_and(|namespace| {
                    let channel = channel.clone();
                    !away
                        && state.older.want(OlderRequest { since: now, channel, namespace, before })
                });
                if !wanted {
                    self.send_older(channel, before, None);
                }
            }
        }
    }

    /// Handles a new connection. `masters` lists the streams of each server behind it. Every stream
    /// is fenced first, because it may be on another server process than before.
    pub fn on_up(&mut self, now: Moment, masters: Vec<Vec<usize>>) {
        self.up = true;
        for state in &mut self.streams {
            state.unfenced = true;
        }
        let before = std::mem::take(&mut self.masters);
        // A server that refuses may also close its connections, so its health outlives them.
        let masters = masters.into_iter().map(|streams| {
            let had = |one: &&Master| one.streams().iter().any(|stream| streams.contains(stream));
            let health = before.iter().filter(had).map(Master::health).max_by_key(|one| one.rank());
            Master::new(streams, now, health.unwrap_or_default())
        });
        self.masters = masters.collect();
    }

    /// Handles the loss of the connection, and with it of the replies to all calls.
    pub fn on_down(&mut self, now: Moment) {
        self.up = false;
        // A connection on which no stream was fenced was useless. It must not restart the time for
        // which publishers wait.
        if std::mem::take(&mut self.taken_over) {
            self.down_since = now;
        }
        (self.calls, self.reading_older) = (0, false);
        for state in &mut self.streams {
            state.writer.on_lost();
            state.older.on_answer(None);
            if std::mem::take(&mut state.locating) {
                state.locator.on_answer(None);
            }
            (state.fencing, state.appending) = (false, false);
            state.writer_run = None;
        }
    }

    /// Returns the next call to make now, if there is one.
    pub fn next_call(&mut self, now: Moment) -> Option<Call> {
        if !self.up {
            return None;
        }
        // Fences come first: an unfenced server may lack entries that were acknowledged.
        let fence = self.streams.iter().position(|state| state.unfenced && !state.fencing);
        if let Some(stream) = fence {
            self.streams[stream].fencing = true;
            // The reader may not know of the epoch that was written to last. A new one must be
            // above both.
            let writer = EntryId { epoch: self.streams[stream].writer.epoch(), number: 0 };
            return Some(Call::Fence { stream, seen: self.seen(stream).max(writer) });
        }
        if let Some(probe) = self.next_probe(now) {
            return Some(Call::Probe(probe));
        }
        if let Some(call) = self.next_older() {
            return Some(call);
        }
        if self.calls >= BUS_CALLS_MAX {
            return None;
        }
        for step in 0..self.streams.len() {
            let stream = (self.turn + step) % self.streams.len();
            let fresh = self.fresh();
            let state = &mut self.streams[stream];
            if state.unfenced {
                continue;
            }
            if !state.appending && state.writer.is_ready() {
                let Some(append) = state.writer.send(now, fresh, state.cursor.at()) else {
                    continue;
                };
                state.appending = true;
                self.calls += 1;
                self.turn = stream + 1;
                return Some(Call::Append(append));
            }
            if !state.locating && state.locator.is_ready() {
                state.locating = true;
                self.calls += 1;
                self.turn = stream + 1;
                return Some(Call::Tops(state.locator.ask(stream)));
            }
        }
        None
    }

    /// Returns the next call that reads histories. It does not count among the other calls.
    fn next_older(&mut self) -> Option<Call> {
        if self.reading_older || self.older_calls_left == 0 {
            return None;
        }
        let ready = |state: &StreamState| !state.unfenced && state.older.is_ready();
        // The same stream comes first again only if no other one waits.
        let count = self.streams.len();
        let mut order = (0..count).map(|step| (self.turn + step) % count);
        let stream = order.find(|&stream| ready(&self.streams[stream]))?;
        (self.reading_older, self.turn) = (true, stream + 1);
        self.older_calls_left -= 1;
        self.counters.history_reads.add(1);
        Some(Call::Older(self.streams[stream].older.ask(stream)))
    }

    fn on_older(&mut self, stream: usize, found: Option<Vec<Found>>) {
        self.reading_older = false;
        for (channel, before, found) in self.streams[stream].older.on_answer(found) {
            self.send_older(channel, before, Some(found));
        }
    }

    /// Handles the outcome of a call on the current connection.
    pub fn on_outcome(&mut self, now: Moment, outcome: Outcome) {
        match outcome {
            Outcome::Fenced(stream, fenced) => {
                self.streams[stream].fencing = false;
                if let Some(fenced) = fenced {
                    self.on_taken_over(stream, &fenced);
                }
            }
            Outcome::Appended(stream, result) => {
                self.end_call();
                self.streams[stream].appending = false;
                self.on_appended(now, stream, result);
            }
            Outcome::Located(stream, stand) => {
                self.end_call();
                self.streams[stream].locating = false;
                self.streams[stream].locator.on_answer(stand);
                self.tell_known(stream);
            }
            Outcome::Read(stream, found) => self.on_older(stream, found),
            Outcome::Probed(stream, result) => self.on_probed(now, stream, &result),
        }
    }

    /// Ends one of the calls that count towards [`BUS_CALLS_MAX`].
    fn end_call(&mut self) {
        assert!(self.calls > 0, "an outcome arrived without a call");
        self.calls -= 1;
    }

    /// Handles the fence of a stream on the writer's server.
    fn on_taken_over(&mut self, stream: usize, fenced: &Fenced) {
        (self.taken_over, self.waited_out) = (true, false);
        let fresh = self.fresh();
        let state = &mut self.streams[stream];
        // If the server still names an epoch that had to end (`end_epoch`), it is fenced again.
        state.unfenced = fenced.id < state.above;
        state.writer_run = Some(fenced.run);
        state.unread.on_epoch(fenced.id.epoch);
        let unknown = state.writer.on_fenced(fenced.id.epoch, fresh);
        self.give_up(unknown, Loss::Unknown);
        self.on_fenced(stream, fenced);
    }

    /// Gives up requests that have waited too long.
    pub fn on_tick(&mut self, now: Moment) {
        self.older_calls_left = BUS_OLDER_CALLS_PER_TICK;
        for stream in 0..self.streams.len() {
            let fresh = self.fresh();
            let state = &mut self.streams[stream];
            let expired = state.writer.expire(now, fresh);
            let is_over = |since| now.since(since) > BUS_LOCATE_TIMEOUT;
            let (unlocated, unread) = (state.locator.expire(is_over), state.older.expire(is_over));
            let released = state.writer.release(now);
            let any = !(expired.unknown.is_empty() && expired.certain.is_empty());
            self.waited_out |= !self.up && any;
            for (loss, expired) in
                [(Loss::Unknown, expired.unknown), (Loss::Certain, expired.certain)]
            {
                self.give_up(expired, loss);
            }
            for waiter in released {
                self.counters.unknown.add(1);
                self.answer(waiter, Err(ClientError::ResultUnknown));
            }
            for channel in unlocated {
                self.send_located(channel, None);
            }
            for (channel, before) in unread {
                self.send_older(channel, before, None);
            }
        }
        self.stand(now);
    }

    fn tell_known(&mut self, stream: usize) {
        if !self.loaded_announced && self.is_loaded() {
            self.loaded_announced = true;
            for lane in self.outbound.shards() {
                lane.push(ToHome::Loaded);
            }
        }
        let state = &mut self.streams[stream];
        state.unread.on_read(state.cursor.at());
        let known = state.locator.known(state.cursor.at());
        self.confirm(stream);
        for (channel, position) in known {
            self.send_located(channel, Some(position));
        }
    }

    /// Tells the home of a channel its position. `None` if it is unknown.
    fn send_located(&mut self, channel: ChannelName, position: Option<Position>) {
        self.home_lane(&channel.clone()).push(ToHome::Located { channel, position });
    }

    /// Tells the home of a channel which publications Redis has before an offset. `None` if they
    /// could not be read.
    fn send_older(&mut self, channel: ChannelName, before: u64, found: Option<Found>) {
        self.home_lane(&channel.clone()).push(ToHome::Older { channel, before, found });
    }

    /// Returns the lane to the home of a channel.
    fn home_lane(&mut self, channel: &ChannelName) -> &mut ShardLane {
        self.outbound.shard(self.options.home_map.home(channel.as_str()))
    }

    fn answer(&mut self, waiter: Waiter, result: Result<Published, ClientError>) {
        match waiter {
            Waiter::Publisher(Asker::Connection { connection, request, pipelined }) => {
                let result = result.map(drop);
                let answer = ToShard::Published { connection, request, pipelined, result };
                self.outbound.shard(connection.shard).push(answer);
            }
            Waiter::Publisher(Asker::Control(ticket)) => {
                self.send_to_control(ToControl::Answer { ticket, answer: result.into() });
            }
            Waiter::Publisher(Asker::Bridge(ticket)) => self.own.push((ticket, result)),
            Waiter::Remover(ticket) => {
                let answer = result.map_or_else(Answer::Error, |_| Answer::HistoryRemoved);
                self.send_to_control(ToControl::Answer { ticket, answer });
            }
            Waiter::Publisher(Asker::Nobody) | Waiter::Nobody => {}
        }
    }

    /// Returns a number that no publisher has had, by splitmix64 from the seed of this process.
    fn fresh(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        super::mix(self.random)
    }
}
