//! Where there is a bus, home shards follow it: what it brings is kept and passed on, and whoever
//! asks for a channel that has not been read about waits until the bus has said where it stands.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::channels::{Followed, Resolved};
use super::{Home, Request};
use crate::bus::stream_of;
use crate::channel::{ChannelName, Publication};
use crate::collections::{Named, Table};
use crate::ids::{Epoch, Moment, Position, Since};
use crate::limits::{LOCATES_PER_TICK, PLACE_TIMEOUT};
use crate::mesh::{Answer, Found, Post, ToBus, ToShard};
use crate::reason::ClientError;

/// Channels that are being asked for.
pub(super) struct Awaiting {
    /// Whether the window of the bus is still being read.
    loading: bool,
    /// Requests that wait for an answer about their channel; one question is under way for each.
    waiting: Table<Waiting>,
    /// The channels in it, by the moment at which the first of their requests came.
    deadlines: BTreeSet<(Moment, ChannelName)>,
    /// A request is being judged again, which came at this moment; so a question that is asked now
    /// is asked after it came.
    judging: Option<Moment>,
    /// Streams that the bridge reads late, and how many there are in all.
    late: (Vec<usize>, usize),
    /// Channels with subscribers that may have missed something, to be asked for in turn.
    adrift: VecDeque<ChannelName>,
}

/// What is asked about a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// Where it stands.
    Place,
    /// What Redis keeps of it before an offset.
    Older(u64),
}

/// Who waits for the answer to a question.
struct Waiting {
    channel: ChannelName,
    question: Question,
    /// When the first of them came; absent if all have been given up, and the answer is awaited for
    /// nobody. It says nothing to who comes meanwhile.
    since: Option<Moment>,
    /// Those who came before it was asked, in their order, and when: the answer is for them.
    asked: Vec<(Moment, Request)>,
    /// Those who came later: it may be older than what their clients know.
    later: Vec<(Moment, Request)>,
}

impl Named for Waiting {
    fn name(&self) -> &str {
        self.channel.as_str()
    }
}

impl Awaiting {
    pub(super) fn new(bus: bool) -> Awaiting {
        let (waiting, adrift) = (Table::default(), VecDeque::new());
        let (deadlines, late) = (BTreeSet::new(), (Vec::new(), 0));
        Awaiting { loading: bus, waiting, deadlines, judging: None, late, adrift }
    }
}

impl Home {
    /// Whether the place of `channel` must be asked for before anybody is told of it.
    pub(super) fn is_unknown(&self, channel: &str) -> bool {
        self.has_bus() && (self.awaiting.loading || !self.channels.is_known(channel))
    }

    /// Whether what is known of `channel` may be long ago, and whoever asks now is to wait for the
    /// bridge to read on. Who has waited for it is not sent to wait again.
    pub(super) fn is_late(&self, channel: &str) -> bool {
        let Awaiting { late: (late, streams), judging, .. } = &self.awaiting;
        judging.is_none() && !late.is_empty() && late.contains(&stream_of(channel, *streams))
    }

    /// The bridge reads a stream late, or in time again.
    pub(super) fn on_late(&mut self, stream: usize, streams: usize, late: bool) {
        let list = &mut self.awaiting.late.0;
        list.retain(|other| *other != stream);
        list.extend(late.then_some(stream));
        self.awaiting.late.1 = streams;
    }

    /// Whether somebody waits for the place of `channel`, or is being answered now.
    pub(super) fn is_awaited(&self, channel: &ChannelName) -> bool {
        self.awaiting.judging.is_some() || self.awaiting.waiting.find(channel.as_str()).is_some()
    }

    /// Whether a client has read further, on another node, than this one has.
    pub(super) fn may_be_behind(&self, channel: &str, since: Since) -> bool {
        self.has_bus() && self.channels.is_before(channel, since)
    }

    /// Keeps a request until it is known where its channel stands.
    pub(super) fn await_position(
        &mut self,
        channel: ChannelName,
        request: Request,
        post: &mut Post,
    ) {
        self.wait_or_give_up(channel, Question::Place, request, post);
    }

    /// Keeps a request, unless its client has waited long enough already.
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

    /// Keeps a request until it is known what Redis keeps of its channel before an offset.
    pub(super) fn await_older(
        &mut self,
        channel: ChannelName,
        before: u64,
        request: Request,
        post: &mut Post,
    ) {
        self.wait_or_give_up(channel, Question::Older(before), request, post);
    }

    /// Redis has said what it keeps of a channel before an offset, or can't.
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
        // Where nothing is kept, the answer may be older than what was read meanwhile.
        let awaited = self.awaiting.waiting.find(channel.as_str()).is_some();
        if let Some(last) = last.filter(|_| awaited) {
            self.channels.expect(Resolved { name: channel, namespace: &namespace }, last);
        }
    }

    /// All has been read that was there: what is known now, may be told.
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

    /// The question about a channel has been answered: those who wait are judged again.
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

    /// Those who waited for a channel have been judged. Whoever asked may have left meanwhile, or
    /// wanted no more than to know.
    fn end_judging(&mut self, channel: &ChannelName) {
        self.awaiting.judging = None;
        self.retire(channel);
    }

    /// Forgets a channel at home here if nobody uses it. Not while those are judged who waited for
    /// its place: the next of them would have to ask again.
    pub(super) fn retire(&mut self, channel: &ChannelName) {
        if self.awaiting.judging.is_none() {
            self.channels.retire_named(self.now, channel);
        }
    }

    fn judge(&mut self, came: Moment, request: Request, post: &mut Post) {
        self.awaiting.judging = Some(came);
        self.on_request(request, post);
    }

    /// The bus can't say what was asked of a channel. Who is subscribed goes on to be, and the
    /// question is asked again.
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

    /// The bus has not said in time what was asked of a channel. Its answer is still to come, for
    /// those who have not waited long enough.
    fn expire_waiting(&mut self, channel: &ChannelName, post: &mut Post) {
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

    /// Who can be served with what there is, is; the others may try again.
    fn give_up_requests(
        &mut self,
        channel: &ChannelName,
        requests: Vec<(Moment, Request)>,
        post: &mut Post,
    ) {
        let known = !self.awaiting.loading && self.channels.is_known(channel.as_str());
        // Nor is anything else asked for them.
        self.channels.ask_later(self.now, channel);
        for (came, mut request) in requests {
            let behind = |since| self.may_be_behind(channel.as_str(), since);
            let beyond = match &request {
                Request::Subscribe(subscribe) => subscribe.recover.is_some_and(behind),
                // What was acknowledged before it may be missing here.
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

    /// Channels of a stream may have missed something.
    pub(super) fn on_adrift(&mut self, stream: usize, streams: usize) {
        let adrift = self.channels.set_adrift(|name| stream_of(name, streams) == stream);
        self.awaiting.adrift.extend(adrift);
    }

    /// Publications of a channel were dropped on the way here.
    pub(super) fn on_lost(&mut self, channel: &ChannelName) {
        if self.channels.set_adrift_one(channel) {
            self.awaiting.adrift.push_back(channel.clone());
        }
    }

    /// Asks for channels that may have missed something, a bounded number in a tick: those that
    /// have will bring their clients back. Who has waited long enough for an answer gets one.
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
            // If something was read of it since, that has told.
            if wanted && !self.channels.is_known(channel.as_str()) {
                self.wait_for_answer(channel, Question::Place, None, post);
            }
        }
    }
}

/// Asks the bus about a channel.
fn ask(channel: ChannelName, question: Question, post: &mut Post) {
    post.to_bridge(match question {
        Question::Place => ToBus::Locate { channel },
        Question::Older(before) => ToBus::ReadOlder { channel, before },
    });
}

/// Tells subscribers that their channel stands elsewhere, and the bus if it has given out a place
/// twice.
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

/// Answers a request with an error.
pub(super) fn refuse(request: Request, error: ClientError, post: &mut Post) {
    match request {
        Request::Subscribe(subscribe) => {
            let (channel, connection) = (subscribe.channel, subscribe.connection);
            post.to_shard(connection.shard, ToShard::Refused { channel, connection, error });
        }
        Request::History(history) => post.answer(history.asker, Answer::Error(error)),
    }
}

/// Publications that follow each other as the bus has them, but for faults built in on purpose.
fn tampered(mut publications: Vec<Arc<Publication>>) -> Vec<Arc<Publication>> {
    if crate::sabotage!(SwappedReads)
        && publications.len() > 1
        && publications[1].offset.is_multiple_of(100)
    {
        // The places stay in order, or the swap would be seen at once.
        let (first, second) = (&publications[0], &publications[1]);
        let at = |other: &Arc<Publication>, offset| {
            Arc::new(Publication { offset, ..Publication::clone(other) })
        };
        (publications[0], publications[1]) = (at(second, first.offset), at(first, second.offset));
    }
    publications
}

/// Whether somebody who has waited since `came` has waited long enough for the bus.
fn is_over(now: Moment, came: Moment) -> bool {
    now.since(came) >= PLACE_TIMEOUT && !crate::sabotage!(EndlessPatience)
}
