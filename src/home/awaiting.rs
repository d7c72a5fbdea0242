//! With a bus, home shards follow its order: they keep publications from the bus and pass them on.
//! A request for a channel whose position is unknown waits until the bus has reported it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::channels::{Followed, Resolved};
use super::{Home, Request};
use crate::bus::stream_of;
use crate::channel::{ChannelName, Publication};
use crate::collections::{Named, Table};
use crate::ids::{Epoch, Moment, Position, Since};
use crate::limits::{LOCATES_PER_TICK, PLACE_TIMEOUT, WALK_STEPS_MAX};
use crate::mesh::{Answer, Found, Post, ToBus, ToShard};
use crate::reason::ClientError;
use crate::settings::Redis;

/// Channels whose position or history was requested from the bus.
pub(super) struct Awaiting {
    /// Whether the window of the bus is still being read.
    loading: bool,
    /// Requests that wait for an answer about their channel. There is one open question per
    /// channel.
    waiting: Table<Waiting>,
    /// The channels in `waiting`, by the time of their first request.
    deadlines: BTreeSet<(Moment, ChannelName)>,
    /// The arrival time of the request that is being checked again. A question that is asked now is
    /// later than that.
    judging: Option<Moment>,
    /// The streams that the bridge reads late, and the number of all streams.
    late: (Vec<usize>, usize),
    /// Channels with subscribers that may have missed publications. Their positions are requested
    /// in turn.
    adrift: VecDeque<ChannelName>,
}

/// A question about a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// The position of the channel.
    Place,
    /// The publications before an offset that Redis keeps.
    Older(u64),
}

/// The requests that wait for the answer to a question.
struct Waiting {
    channel: ChannelName,
    question: Question,
    /// The time of the first request. `None` if all requests were given up, so that nothing waits
    /// for the answer. The answer is too old for requests that come meanwhile.
    since: Option<Moment>,
    /// The requests before the question, in order, with their times. The answer is for them.
    asked: Vec<(Moment, Request)>,
    /// The later requests. The answer may be older than the positions of their clients.
    later: Vec<(Moment, Request)>,
}

impl Named for Waiting {
    fn name(&self) -> &str {
        self.channel.as_str()
    }
}

impl Awaiting {
    pub(super) fn new(redis: &Redis) -> Awaiting {
        let (waiting, adrift) = (Table::default(), VecDeque::new());
        let (deadlines, late) = (BTreeSet::new(), (Vec::new(), 0));
        Awaiting { loading: redis.is_on(), waiting, deadlines, judging: None, late, adrift }
    }
}

impl Home {
    /// Whether the position of `channel` must be requested before it is told to any client.
    pub(super) fn is_unknown(&self, channel: &str) -> bool {
        self.has_bus() && (self.awaiting.loading || !self.channels.is_known(channel))
    }

    /// Whether the known state of `channel` may be old, so that new requests must wait for the
    /// bridge. A request that has already waited does not wait again.
    pub(super) fn is_late(&self, channel: &str) -> bool {
        let Awaiting { late: (late, streams), judging, .. } = &self.awaiting;
        judging.is_none() && !late.is_empty() && late.contains(&stream_of(channel, *streams))
    }

    /// Handles a report that the bridge is late with a stream, or in time again.
    pub(super) fn on_late(&mut self, stream: usize, streams: usize, late: bool) {
        let list = &mut self.awaiting.late.0;
        list.retain(|other| *other != stream);
        list.extend(late.then_some(stream));
        self.awaiting.late.1 = streams;
    }

    /// Whether requests wait for the position of `channel`, or are being answered.
    pub(super) fn is_awaited(&self, channel: &ChannelName) -> bool {
        self.awaiting.judging.is_some() || self.awaiting.waiting.find(channel.as_str()).is_some()
    }

    /// Whether a client has read further on another node than this node has.
    pub(super) fn may_be_behind(&self, channel: &str, since: Since) -> bool {
        self.has_bus() && self.channels.is_before(channel, since)
    }

    /// Keeps a request until the position of its channel is known.
    pub(super) fn await_position(
        &mut self,
        channel: ChannelName,
        request: Request,
        post: &mut Post,
    ) {
        self.wait_or_give_up(channel, Question::Place, request, post);
    }

    /// Keeps a request, unless its client has already waited long enough.
    fn wait_or_give_up(
        &mut self,
        channel: ChannelName,
        question: Question,
        request: Request,
        post: &mut Post,
    ) {
        let unserved = request.unserved();
        match unserved.filter(|since| is_over(self.now, *since)) {
            Some(since) if self.awaiting.judging.is_none() => {
                self.wait_for_answer(channel.clone(), question, None, post);
                self.give_up_requests(&channel, vec![(since, request)], post);
            }
            _ => self.wait_for_answer(channel, question, Some(request), post),
        }
    }

    fn wait_for_answer(
        &mut self,
        channel: ChannelName,
        question: Question,
        request: Option<Request>,
        post: &mut Post,
    ) {
        let Awaiting { waiting, deadlines, loading, judging, .. } = &mut self.awaiting;
        let unserved = request.as_ref().and_then(Request::unserved);
        let came = judging.or(unserved).unwrap_or(self.now);
        let request = request.map(|request| (came, request));
        if let Some(waiting) = waiting.find_mut(channel.as_str()) {
            let before = waiting.question == question && (judging.is_some() || *loading);
            let list = if before { &mut waiting.asked } else { &mut waiting.later };
            list.extend(request);
            if waiting.since.is_none_or(|since| came < since) {
                if let Some(since) = waiting.since.replace(came) {
                    deadlines.remove(&(since, channel.clone()));
                }
                deadlines.insert((came, channel));
            }
            return;
        }
        let asked = request.into_iter().collect();
        let (since, name) = (Some(came), channel.clone());
        deadlines.insert((came, channel.clone()));
        waiting.insert(Waiting { channel: name, question, since, asked, later: Vec::new() });
        if !*loading {
            ask(channel, question, post);
        }
    }

    /// Keeps a request until Redis has returned the publications of its channel before an offset.
    pub(super) fn await_older(
        &mut self,
        channel: ChannelName,
        before: u64,
        request: Request,
        post: &mut Post,
    ) {
        self.wait_or_give_up(channel, Question::Older(before), request, post);
    }

    /// Handles the answer of Redis about publications of a channel before an offset, or its
    /// failure.
    pub(super) fn on_older(
        &mut self,
        channel: &ChannelName,
        before: u64,
        found: Option<Found>,
        post: &mut Post,
    ) {
        match found {
            Some(found) => self.channels.prepend(self.now, channel, before, found),
            None => self.channels.ask_later(self.now, channel),
        }
        self.serve_waiting(channel, post);
    }

    pub(super) fn on_read(
        &mut self,
        channel: &ChannelName,
        epoch: Epoch,
        publications: Vec<Arc<Publication>>,
        post: &mut Post,
    ) {
        let Ok(namespace) = self.namespace(channel.as_str()) else { return };
        let last = publications.iter().rev().find(|publication| publication.offset > 0);
        let last = last.map(|publication| Position { epoch, offset: publication.offset });
        for publication in tampered(publications) {
            let read = self.channels.read(
                self.now,
                Resolved { name: channel, namespace: &namespace },
                epoch,
                &publication,
            );
            let Some(followed) = read else { continue };
            tell_followed(channel, &followed, post);
            for &shard in followed.interested {
                post.publication(shard, channel, &publication);
            }
        }
        // If nothing is kept, the answer may be older than the publications read meanwhile.
        let awaited = self.awaiting.waiting.find(channel.as_str()).is_some();
        if let Some(last) = last.filter(|_| awaited) {
            self.channels.expect(Resolved { name: channel, namespace: &namespace }, last);
        }
    }

    /// Handles the end of loading. From now on, known positions may be told to clients.
    pub(super) fn on_loaded(&mut self, post: &mut Post) {
        self.awaiting.loading = false;
        let waiting = self.awaiting.waiting.iter();
        let waiting: Vec<_> = waiting.map(|(_, waiting)| waiting.channel.clone()).collect();
        for channel in waiting {
            ask(channel, Question::Place, post);
        }
    }

    pub(super) fn on_located(
        &mut self,
        channel: &ChannelName,
        position: Option<Position>,
        post: &mut Post,
    ) {
        let Ok(namespace) = self.namespace(channel.as_str()) else { return };
        let Some(position) = position else { return self.give_up_waiting(channel, post) };
        let followed =
            self.channels.locate(Resolved { name: channel, namespace: &namespace }, position);
        tell_followed(channel, &followed, post);
        self.serve_waiting(channel, post);
    }

    fn take_waiting(&mut self, channel: &ChannelName) -> Option<Waiting> {
        let place = self.awaiting.waiting.find(channel.as_str())?;
        let waiting = self.awaiting.waiting.remove(place)?;
        if let Some(since) = waiting.since {
            self.awaiting.deadlines.remove(&(since, channel.clone()));
        }
        Some(waiting)
    }

    /// Checks waiting requests again after the answer to the question about their channel.
    fn serve_waiting(&mut self, channel: &ChannelName, post: &mut Post) {
        let Some(waiting) = self.take_waiting(channel) else {
            return self.retire(channel);
        };
        let Waiting { question, asked, later, .. } = waiting;
        for (came, mut request) in asked {
            match (&mut request, question) {
                (Request::Subscribe(subscribe), Question::Place) => subscribe.confirmed = true,
                (Request::History(history), Question::Place) => history.confirmed = true,
                (_, Question::Older(_)) => {}
            }
            self.judge(came, request, post);
        }
        for (came, request) in later {
            self.judge(came, request, post);
        }
        self.end_judging(channel);
    }

    /// Ends this check. The channel may be unused now, because clients have left or asked only for
    /// its position.
    fn end_judging(&mut self, channel: &ChannelName) {
        self.awaiting.judging = None;
        self.retire(channel);
    }

    /// Removes a channel if it is unused. It stays while waiting requests are checked, because the
    /// next one would have to ask again.
    pub(super) fn retire(&mut self, channel: &ChannelName) {
        if self.awaiting.judging.is_none() {
            self.channels.retire_named(self.now, channel);
        }
    }

    fn judge(&mut self, came: Moment, request: Request, post: &mut Post) {
        self.awaiting.judging = Some(came);
        self.on_request(request, post);
    }

    /// Handles a question that the bus can't answer. Existing subscriptions stay, and the question
    /// is asked again.
    fn give_up_waiting(&mut self, channel: &ChannelName, post: &mut Post) {
        if let Some(waiting) = self.take_waiting(channel) {
            let requests = waiting.asked.into_iter().chain(waiting.later);
            self.give_up_requests(channel, requests.collect(), post);
        }
        let known = self.channels.is_known(channel.as_str());
        if !known && self.channels.has_listeners(channel.as_str()) {
            self.awaiting.adrift.push_back(channel.clone());
        }
    }

    /// Handles a question without an answer in time. The answer may still come for requests that
    /// have not waited long enough.
    fn expire_waiting(&mut self, channel: &ChannelName, post: &mut Post) {
        self.hear(channel);
        let Awaiting { waiting, deadlines, .. } = &mut self.awaiting;
        let Some(waiting) = waiting.find_mut(channel.as_str()) else { return };
        if let Some(since) = waiting.since.take() {
            deadlines.remove(&(since, channel.clone()));
        }
        let mut over = Vec::new();
        for list in [&mut waiting.asked, &mut waiting.later] {
            over.extend(list.extract_if(.., |(came, _)| is_over(self.now, *came)));
            waiting.since = list.iter().map(|(came, _)| *came).chain(waiting.since).min();
        }
        if let Some(since) = waiting.since {
            deadlines.insert((since, channel.clone()));
        }
        self.give_up_requests(channel, over, post);
    }

    /// Serves requests from memory if possible. The others fail, and clients may retry.
    fn give_up_requests(
        &mut self,
        channel: &ChannelName,
        requests: Vec<(Moment, Request)>,
        post: &mut Post,
    ) {
        let known = !self.awaiting.loading && self.channels.is_known(channel.as_str());
        // No other question is asked for these requests.
        self.channels.ask_later(self.now, channel);
        for (came, mut request) in requests {
            let behind = |since| self.may_be_behind(channel.as_str(), since);
            let beyond = match &request {
                Request::Subscribe(subscribe) => subscribe.recover.is_some_and(behind),
                // Publications acknowledged before the request may be missing here.
                Request::History(history) => !history.confirmed,
            };
            if known && !beyond {
                if let Request::Subscribe(subscribe) = &mut request {
                    subscribe.confirmed = true;
                }
                self.judge(came, request, post);
            } else {
                refuse(request, ClientError::BusAway, post);
            }
        }
        self.end_judging(channel);
    }

    /// Handles a report that channels of a stream may have missed publications.
    pub(super) fn on_adrift(&mut self, stream: usize, streams: usize) {
        while self.channels.has_many_losses() {
            self.turn_losses();
        }
        self.channels.lose(stream, streams);
    }

    /// Lets a channel hear of losses before it is used.
    pub(super) fn hear(&mut self, channel: &ChannelName) {
        if self.channels.hear(channel) {
            self.awaiting.adrift.push_back(channel.clone());
        }
    }

    /// Lets some more channels hear of losses.
    pub(super) fn turn_losses(&mut self) {
        let adrift = self.channels.hear_some(WALK_STEPS_MAX);
        self.awaiting.adrift.extend(adrift);
    }

    /// Handles a report that publications of a channel were dropped on the way to this shard.
    pub(super) fn on_lost(&mut self, channel: &ChannelName) {
        if self.channels.set_adrift_one(channel) {
            self.awaiting.adrift.push_back(channel.clone());
        }
    }

    /// Requests the positions of channels that may have missed publications. The number per tick is
    /// bounded, because clients of affected channels reconnect. Also answers requests that have
    /// waited long enough.
    pub(super) fn on_tick_awaiting(&mut self, post: &mut Post) {
        let now = self.now;
        while let Some((_, channel)) =
            self.awaiting.deadlines.first().filter(|(came, _)| is_over(now, *came)).cloned()
        {
            self.expire_waiting(&channel, post);
        }
        for _ in 0..LOCATES_PER_TICK {
            let Some(channel) = self.awaiting.adrift.pop_front() else { return };
            let wanted = self.channels.has_listeners(channel.as_str());
            // A publication read meanwhile may have verified the position.
            if wanted && !self.channels.is_known(channel.as_str()) {
                self.wait_for_answer(channel, Question::Place, None, post);
            }
        }
    }
}

/// Sends a question about a channel to the bus.
fn ask(channel: ChannelName, question: Question, post: &mut Post) {
    post.to_bridge(match question {
        Question::Place => ToBus::Locate { channel },
        Question::Older(before) => ToBus::ReadOlder { channel, before },
    });
}

/// Tells subscribers that the position of their channel has moved, and the bus if a position was
/// assigned twice.
fn tell_followed(channel: &ChannelName, followed: &Followed<'_>, post: &mut Post) {
    if followed.repeated {
        post.to_bridge(ToBus::Repeated { channel: channel.clone() });
    }
    if let Some(top) = followed.moved {
        for &shard in followed.interested {
            post.to_shard(shard, ToShard::Moved { channel: channel.clone(), top });
        }
    }
}

/// Refuses a request with an error.
pub(super) fn refuse(request: Request, error: ClientError, post: &mut Post) {
    match request {
        Request::Subscribe(subscribe) => {
            let (channel, connection) = (subscribe.channel, subscribe.connection);
            post.to_shard(connection.shard, ToShard::Refused { channel, connection, error });
        }
        Request::History(history) => post.answer(history.asker, Answer::Error(error)),
    }
}

/// Returns the publications unchanged, except for faults that tests build in.
fn tampered(mut publications: Vec<Arc<Publication>>) -> Vec<Arc<Publication>> {
    if crate::sabotage!(SwappedReads)
        && publications.len() > 1
        && publications[1].offset.is_multiple_of(100)
    {
        // The offsets stay in order; otherwise the swap would be found at once.
        let (first, second) = (&publications[0], &publications[1]);
        let at = |other: &Arc<Publication>, offset| {
            Arc::new(Publication { offset, ..Publication::clone(other) })
        };
        (publications[0], publications[1]) = (at(second, first.offset), at(first, second.offset));
    }
    publications
}

/// Whether a request that arrived at `came` has waited long enough for the bus.
fn is_over(now: Moment, came: Moment) -> bool {
    now.since(came) >= PLACE_TIMEOUT && !crate::sabotage!(EndlessPatience)
}
