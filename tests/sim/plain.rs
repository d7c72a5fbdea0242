//! A client with plain WebSocket, with or without the envelope.

use std::collections::BTreeMap;

use super::follow::Follow;
use super::payload;
use super::replies::Envelope;
use super::scene::Scene;
use super::truth::Place;

#[derive(Default)]
pub struct Plain {
    pub envelope: bool,
    pub channels: Vec<usize>,
    pub publish: Option<usize>,
    /// Requested number of latest publications in channels without a position.
    pub last: usize,
    /// Requested positions, in channels that have not received anything yet.
    pub since: BTreeMap<usize, Place>,
    /// The position at which each channel begins, as the server announced it.
    begins: BTreeMap<usize, Place>,
    /// Number of publish attempts at the time when the connection was opened.
    opened: usize,
    /// Received publications of each channel since the connection was opened.
    pub follows: BTreeMap<usize, Follow>,
    /// Received publications of each channel, in order. They are checked once their places are
    /// known.
    received: BTreeMap<usize, Vec<usize>>,
    /// Positions that outlive the connection.
    pub memory: BTreeMap<usize, Place>,
}

impl Plain {
    pub fn new(envelope: bool, channels: Vec<usize>, publish: Option<usize>) -> Plain {
        Plain { envelope, channels, publish, ..Plain::default() }
    }

    /// Returns the target of the request that opens the connection.
    pub fn target(&mut self, scene: &mut Scene<'_>) -> String {
        let setup = scene.setup;
        let name = |channel: &usize| setup.channels[*channel].name.clone();
        let names: Vec<String> = self.channels.iter().map(name).collect();
        self.since.clear();
        for &channel in &self.channels {
            if let Some(&place) =
                self.memory.get(&channel).filter(|_| scene.network.random.chance(80))
            {
                self.since.insert(channel, place);
            }
        }
        let mut target = format!("/ws?channels={}", names.join(","));
        if self.envelope {
            target.push_str("&envelope=json");
        }
        if let Some(publish) = &self.publish {
            target.push_str(&format!("&publish={}", name(publish)));
        }
        for (channel, Place { epoch, offset }) in &self.since {
            let name = if self.channels.len() == 1 { String::new() } else { name(channel) + "@" };
            target.push_str(&format!("&since={name}{epoch:x}:{offset}"));
        }
        self.last = scene.network.random.pick(&[0, 0, 1, 4, 300]);
        if self.last > 0 {
            target.push_str(&format!("&last={}", self.last));
        }
        target
    }

    /// Handles the opened connection.
    pub fn open(&mut self, scene: &Scene<'_>) {
        self.opened = scene.truth.count();
        for &channel in &self.channels {
            let since = self.since.get(&channel).copied();
            self.follows.insert(channel, Follow::new(since, self.envelope));
        }
    }

    /// Handles the end of the connection.
    pub fn end(&mut self, scene: &Scene<'_>) {
        for (channel, numbers) in std::mem::take(&mut self.received) {
            check_places(scene, channel, &numbers);
            let first = numbers.iter().find_map(|&number| scene.truth.place(number));
            if let Some(first) = first.filter(|_| !scene.setup.channels[channel].skips()) {
                self.check_begin(scene, channel, first);
            }
        }
        for (channel, place) in std::mem::take(&mut self.begins) {
            let next = Place { offset: place.offset + 1, ..place };
            self.check_begin(scene, channel, next);
        }
        self.follows.clear();
    }

    /// Checks that all publications after the upgrade were delivered: none of them may have a place
    /// before `first`, the first received one.
    fn check_begin(&self, scene: &Scene<'_>, channel: usize, first: Place) {
        for number in self.opened..scene.truth.count() {
            let place = scene.truth.place(number).filter(|place| place.epoch == first.epoch);
            if let Some(place) = place.filter(|_| scene.truth.channel(number) == channel) {
                assert!(
                    place.offset >= first.offset,
                    "{number} at {place:?} was published to an open connection that begins at \
                     {first:?}"
                );
            }
        }
    }

    /// Handles one message.
    pub fn on_message(&mut self, scene: &mut Scene<'_>, message: &[u8]) {
        if self.envelope {
            return self.on_envelope(scene, message);
        }
        // Without an envelope, only the payload identifies the channel.
        let text = String::from_utf8_lossy(message);
        let number = text.split('#').nth(1).and_then(|number| number.parse().ok());
        let number: usize = number.unwrap_or_else(|| panic!("{text:?} was not published"));
        assert!(number < scene.truth.count(), "{text:?} was not published yet");
        let channel = scene.truth.attempt(number).channel;
        let follow = self.follows.get_mut(&channel).expect("a channel that was asked for");
        follow.see((scene.truth, scene.setup), channel, (message, 0, None));
        self.received.entry(channel).or_default().push(number);
        if let Some(place) = scene.truth.place(number) {
            self.remember(scene, channel, place);
        }
    }

    fn on_envelope(&mut self, scene: &mut Scene<'_>, message: &[u8]) {
        let envelope: Envelope<'_> = serde_json::from_slice(message).expect("an envelope");
        let channel = scene.setup.find(envelope.channel);
        let follow = self.follows.get_mut(&channel).expect("a channel that was asked for");
        if let Some(gap) = envelope.gap {
            scene.notices += 1;
            if !self.begins.contains_key(&channel) {
                // The server does not know the last publication of the client.
                assert!(self.since.remove(&channel).is_some(), "nothing was asked for");
                assert_eq!(gap.after, 0, "a gap before the first position begins at 0");
                scene.notices -= 1;
                *follow = Follow::new(None, true);
                follow.last = Some(gap.next - 1);
                return;
            }
            let missed = (gap.next - gap.after - 1) as usize;
            let kept = scene.setup.keeps(channel, missed);
            let removed = scene.truth.removed.contains(&channel);
            assert!(!kept || removed, "the publications after {} were available", gap.after);
            return follow.announce(gap.after, gap.next);
        }
        let Some(data) = envelope.data else {
            return self.begin(scene, channel, Place::read(envelope.epoch, envelope.offset));
        };
        assert!(self.begins.contains_key(&channel), "a position comes before all publications");
        let data = payload::read(scene.setup.channels[channel].namespace.data, data.get());
        let place = Place::read(envelope.epoch, envelope.offset);
        let seen = (data.as_slice(), place.offset, Some(place.epoch));
        follow.see((scene.truth, scene.setup), channel, seen);
        if place.offset > 0 {
            self.remember(scene, channel, place);
        }
    }

    /// Handles the first message of a channel, which contains its beginning, unless a gap precedes
    /// it.
    fn begin(&mut self, scene: &Scene<'_>, channel: usize, place: Place) {
        if let Some(since) = self.since.remove(&channel) {
            assert_eq!(place, since, "a recovery begins where the client is");
        }
        let follow = self.follows.get_mut(&channel).expect("a channel that was asked for");
        let expected = follow.last.unwrap_or(place.offset);
        assert_eq!(place.offset, expected, "a channel begins after the missed publications");
        (follow.epoch, follow.last) = (Some(place.epoch), Some(place.offset));
        let before = self.begins.insert(channel, place);
        assert_eq!(before, None, "a channel begins once");
        self.remember(scene, channel, place);
    }

    fn remember(&mut self, scene: &Scene<'_>, channel: usize, place: Place) {
        if scene.setup.channels[channel].has_history() {
            self.memory.insert(channel, place);
        }
    }
}

/// Checks for holes where places are known. A client that is closed at every gap must have none.
fn check_places(scene: &Scene<'_>, channel: usize, numbers: &[usize]) {
    if scene.setup.channels[channel].skips() {
        return;
    }
    let mut last: Option<(usize, Place)> = None;
    let mut between = 0;
    for &number in numbers {
        let Some(place) = scene.truth.place(number) else {
            between += 1;
            continue;
        };
        if let Some((before, last)) = last.filter(|(_, last)| last.epoch == place.epoch) {
            // Publications without a known place may have one in between, or none in the channel's
            // order.
            let least = last.offset + 1;
            let most = least + between;
            assert!(
                (least..=most).contains(&place.offset),
                "{number} at {place:?} came after {before} at {last:?}"
            );
        }
        (last, between) = (Some((number, place)), 0);
    }
}
