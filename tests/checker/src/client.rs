//! A subscriber. Like an SDK, it follows its channels across connections, nodes and epochs by its
//! last position in each channel. It records everything that it receives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::history::{Client as Record, Event, Place, now};
use crate::load::{Load, Phase, count};
use crate::wire;

/// Timeout of a connection with its handshake.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Time without a frame, in addition to the ping interval, after which a client disconnects.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Pause before a temporarily refused subscription is tried again.
const RETRY: Duration = Duration::from_millis(300);

/// Receive buffer of a slow reader. A smaller one would stall the sender's kernel instead of the
/// sender.
const SLOW_RECEIVE_BYTES: u32 = 16 * 1024;

/// The behaviour of a client under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// It stays connected and reads.
    Steady,
    /// It reads with pauses.
    Slow,
    /// It disconnects and returns.
    Flapping,
}

/// The reason why a connection ended.
enum Ending {
    /// The server or the network ended it, or the client disconnected.
    Over,
    /// The run ends.
    Stop,
}

/// A channel that the client subscribes to.
#[derive(Debug, Default)]
struct Wanted {
    /// The last position in any subscription.
    position: Option<Place>,
    /// The epoch's text, for recovery.
    epoch: String,
    /// The number of the present subscription.
    sub: Option<u32>,
}

/// One client.
pub(crate) struct Client {
    habit: Habit,
    load: Arc<Load>,
    phase: watch::Receiver<Phase>,
    random: Rng,
    wanted: BTreeMap<u16, Wanted>,
    next_sub: u32,
    record: Record,
}

/// The state of one connection.
struct Connection {
    node: u8,
    socket: WebSocketStream<TcpStream>,
    next_id: u32,
    /// Pending subscriptions: channels, and the requested positions.
    asked: BTreeMap<u32, (u16, Option<Place>)>,
    /// Channels to subscribe to again, and the time to do so.
    again: Option<(Instant, Vec<u16>)>,
    silence_max: Duration,
}

impl Client {
    /// Creates a client for `channels`.
    pub(crate) fn new(habit: Habit, load: Arc<Load>, random: Rng, channels: &[u16]) -> Client {
        let phase = load.phase.subscribe();
        let wanted = channels.iter().map(|channel| (*channel, Wanted::default())).collect();
        Client { habit, load, phase, random, wanted, next_sub: 0, record: Record::default() }
    }

    /// Runs until the run stops. Returns all observations.
    pub(crate) async fn run(mut self) -> Record {
        loop {
            if *self.phase.borrow() == Phase::Stop {
                return self.end();
            }
            let node = self.random.usize(..self.load.clients.len());
            let opened = timeout(CONNECT_MAX, self.open(node)).await;
            if let Ok(Some(mut connection)) = opened {
                count(&self.load.counts.connections);
                if matches!(self.stay(&mut connection).await, Ending::Stop) {
                    return self.end();
                }
                for wanted in self.wanted.values_mut() {
                    wanted.sub = None;
                }
            }
            // With jitter, as in SDKs, so that the clients of a node do not all reconnect at the
            // same time.
            let pause = Duration::from_millis(self.random.u64(50..500));
            tokio::select! {
                () = sleep(pause) => {}
                _ = self.phase.wait_for(|phase| *phase == Phase::Stop) => {}
            }
        }
    }

    fn end(mut self) -> Record {
        let place = |wanted: &Wanted| wanted.sub.and(wanted.position);
        self.record.end =
            self.wanted.iter().map(|(channel, wanted)| (*channel, place(wanted))).collect();
        self.record
    }

    /// Connects and subscribes to all channels at once, as SDKs do.
    async fn open(&mut self, node: usize) -> Option<Connection> {
        let address = self.load.clients[node];
        let socket = TcpSocket::new_v4().ok()?;
        if self.habit == Habit::Slow {
            socket.set_recv_buffer_size(SLOW_RECEIVE_BYTES).ok()?;
        }
        let stream = socket.connect(address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let url = format!("ws://{address}/connection/websocket");
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.ok()?;
        let mut connection = Connection {
            node: node as u8,
            socket,
            next_id: 1,
            asked: BTreeMap::new(),
            again: None,
            silence_max: SILENCE_MAX,
        };
        let channels: Vec<u16> = self.wanted.keys().copied().collect();
        let lines = self.subscriptions(&mut connection, &channels);
        let text = format!("{{\"id\":1,\"connect\":{{}}}}\n{}", lines.join("\n"));
        connection.socket.send(Message::text(text)).await.ok()?;
        Some(connection)
    }

    /// Returns the commands that subscribe to `channels` from the client's positions.
    fn subscriptions(&self, connection: &mut Connection, channels: &[u16]) -> Vec<String> {
        let line = |channel: &u16| {
            let wanted = self.wanted.get(channel)?;
            connection.next_id += 1;
            connection.asked.insert(connection.next_id, (*channel, wanted.position));
            let since = wanted.position.map(|place| (wanted.epoch.as_str(), place.offset));
            let name = &self.load.channels[usize::from(*channel)];
            Some(wire::subscribe(connection.next_id, name, since))
        };
        channels.iter().filter_map(line).collect()
    }

    /// Serves the connection until it ends.
    async fn stay(&mut self, connection: &mut Connection) -> Ending {
        let mut leave = self.leave_at();
        let mut pause = self.pause_at();
        let mut heard = Instant::now();
        loop {
            let phase = *self.phase.borrow_and_update();
            if phase == Phase::Stop {
                return Ending::Stop;
            }
            if phase == Phase::Quiet {
                (leave, pause) = (None, None);
            }
            let again = connection.again.as_ref().map(|(at, _)| *at);
            tokio::select! {
                message = connection.socket.next() => {
                    heard = Instant::now();
                    if self.take(connection, message).await.is_none() {
                        return Ending::Over;
                    }
                }
                () = until(leave) => return Ending::Over,
                () = until(pause) => {
                    let rest = Duration::from_millis(self.random.u64(500..6000));
                    tokio::select! {
                        () = sleep(rest) => {}
                        _ = self.phase.wait_for(|phase| *phase != Phase::Load) => {}
                    }
                    heard = Instant::now();
                    pause = self.pause_at();
                }
                () = until(again) => {
                    let (_, channels) = connection.again.take().unwrap_or((heard, Vec::new()));
                    let text = self.subscriptions(connection, &channels).join("\n");
                    if connection.socket.send(Message::text(text)).await.is_err() {
                        self.closed(connection.node, 0);
                        return Ending::Over;
                    }
                }
                () = sleep_until(heard + connection.silence_max) => {
                    self.closed(connection.node, 0);
                    return Ending::Over;
                }
                _ = self.phase.changed() => {}
            }
        }
    }

    /// Returns the time at which a flapping client disconnects.
    fn leave_at(&mut self) -> Option<Instant> {
        let stay = Duration::from_millis(self.random.u64(100..4000));
        (self.habit == Habit::Flapping).then(|| Instant::now() + stay)
    }

    /// Returns the time at which a slow reader pauses.
    fn pause_at(&mut self) -> Option<Instant> {
        let read = Duration::from_millis(self.random.u64(50..500));
        (self.habit == Habit::Slow).then(|| Instant::now() + read)
    }

    /// Handles a message. Returns `None` at the end of the connection.
    async fn take(
        &mut self,
        connection: &mut Connection,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> Option<()> {
        match message {
            Some(Ok(Message::Text(text))) => {
                for line in text.split('\n') {
                    if !self.line(connection, line).await {
                        self.closed(connection.node, 0);
                        return None;
                    }
                }
            }
            Some(Ok(Message::Close(frame))) => {
                self.closed(connection.node, frame.map_or(0, |frame| frame.code.into()));
                return None;
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => {
                self.closed(connection.node, 0);
                return None;
            }
        }
        Some(())
    }

    fn closed(&mut self, node: u8, code: u16) {
        self.record.events.push(Event::Closed { node, code, at: now() });
    }

    /// Handles one line. Returns whether the connection stays open.
    async fn line(&mut self, connection: &mut Connection, text: &str) -> bool {
        if text == "{}" {
            return connection.socket.send(Message::text("{}")).await.is_ok();
        }
        let line: wire::Line<'_> = match serde_json::from_str(text) {
            Ok(line) => line,
            Err(error) => {
                self.odd(format!("{error} in {}", text.chars().take(200).collect::<String>()));
                return false;
            }
        };
        if let Some(push) = line.push {
            self.push(connection, &push);
        } else if let Some(connect) = line.connect {
            connection.silence_max = Duration::from_secs(connect.ping) + SILENCE_MAX;
        } else if let Some((channel, since)) = connection.asked.remove(&line.id) {
            match (line.subscribe, line.error) {
                (Some(reply), _) => self.subscribed((channel, since), &reply),
                (None, Some(error)) => self.refused(connection, channel, &error),
                (None, None) => self.odd(format!("an empty reply: {text}")),
            }
        } else {
            self.odd(format!("a reply that nobody asked for: {text}"));
            return false;
        }
        true
    }

    fn odd(&mut self, text: String) {
        self.record.events.push(Event::Odd { text, at: now() });
    }

    fn subscribed(&mut self, (channel, since): (u16, Option<Place>), reply: &wire::Subscribe<'_>) {
        let epoch = self.load.epochs.number(&reply.epoch);
        let (sub, at) = (self.next_sub, now());
        self.next_sub += 1;
        let place = Place { epoch, offset: reply.offset };
        let recovered = reply.recovered;
        self.record.events.push(Event::Subscribed { sub, channel, since, recovered, place, at });
        if since.is_some() {
            let counts = &self.load.counts;
            count(if recovered { &counts.recovered } else { &counts.unrecovered });
        }
        let mut reached = place;
        for publication in &reply.publications {
            reached = Place { epoch, offset: publication.offset };
            let pid = publication.data.pid_in(channel);
            let (place, in_reply) = (reached, true);
            self.record.events.push(Event::Received { sub, channel, place, pid, in_reply, at });
        }
        self.load.counts.received.fetch_add(reply.publications.len() as u64, Ordering::Relaxed);
        if let Some(wanted) = self.wanted.get_mut(&channel) {
            wanted.epoch.clear();
            wanted.epoch.push_str(&reply.epoch);
            (wanted.sub, wanted.position) = (Some(sub), Some(reached));
        }
    }

    /// Retries a temporarily refused subscription later. Any other error is recorded as odd.
    fn refused(&mut self, connection: &mut Connection, channel: u16, error: &wire::Error<'_>) {
        if error.code != 100 && error.code != 111 {
            self.odd(format!("subscribing ended with {} {}", error.code, error.message));
        }
        subscribe_again(connection, channel, RETRY);
    }

    fn push(&mut self, connection: &mut Connection, push: &wire::Push<'_>) {
        let at = now();
        let number = self.load.channels.iter().position(|name| *name == push.channel);
        let channel = number.map_or(u16::MAX, |number| number as u16);
        let wanted = self.wanted.get_mut(&channel);
        let Some((sub, wanted)) = wanted.and_then(|wanted| Some((wanted.sub?, wanted))) else {
            return self.odd(format!("a push for {}, which is not subscribed", push.channel));
        };
        if let Some(publication) = &push.publication {
            let epoch = wanted.position.map_or(u16::MAX, |place| place.epoch);
            let place = Place { epoch, offset: publication.offset };
            let pid = publication.data.pid_in(channel);
            wanted.position = Some(place);
            count(&self.load.counts.received);
            let in_reply = false;
            self.record.events.push(Event::Received { sub, channel, place, pid, in_reply, at });
        } else if let Some(unsubscribe) = &push.unsubscribe {
            let code = unsubscribe.code;
            wanted.sub = None;
            count(&self.load.counts.notices);
            self.record.events.push(Event::Unsubscribed { channel, code, at });
            subscribe_again(connection, channel, Duration::ZERO);
        } else {
            self.odd("an empty push".to_owned());
        }
    }
}

fn subscribe_again(connection: &mut Connection, channel: u16, after: Duration) {
    let at = Instant::now() + after;
    connection.again.get_or_insert_with(|| (at, Vec::new())).1.push(channel);
}

/// Waits until this time, or for ever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
