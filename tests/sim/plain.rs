//! A client of plain WebSocket, with and without the envelope.

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
    pub since: Option<Place>,
    /// What has come of each channel since the connection was opened.
    pub follows: BTreeMap<usize, Follow>,
    /// What has come of each channel, in order: judged when places are known.
    received: BTreeMap<usize, Vec<usize>>,
    /// Positions that survive the connection.
    pub memory: BTreeMap<usize, Place>,
}

impl Plain {
    pub fn new(envelope: bool, channels: Vec<usize>, publish: Option<usize>) -> Plain {
        Plain { envelope, channels, publish, ..Plain::default() }
    }

    /// The target of the request that opens the connection.
    pub fn target(&mut self, scene: &mut Scene<'_>) -> String {
        let name = |channel: &usize| scene.setup.channels[*channel].name.as_str();
        let names: Vec<&str> = self.channels.iter().map(name).collect();
        let mut target = format!("/ws?channels={}", names.join(","));
        if self.envelope {
            target.push_str("&envelope=json");
        }
        if let Some(publish) = &self.publish {
            target.push_str(&format!("&publish={}", name(publish)));
        }
        self.since = match *self.channels {
            [channel] if scene.network.random.chance(80) => self.memory.get(&channel).copied(),
            _ => None,
        };
        if let Some(Place { epoch, offset }) = self.since {
            target.push_str(&format!("&since={epoch:x}:{offset}"));
        }
        target
    }

    /// The connection is open.
    pub fn open(&mut self) {
        for &channel in &self.channels {
            self.follows.insert(channel, Follow::new(self.since, self.envelope));
        }
    }

    /// The connection is over.
    pub fn end(&mut self, scene: &Scene<'_>) {
        for (channel, numbers) in std::mem::take(&mut self.received) {
            check_places(scene, channel, &numbers);
        }
        self.follows.clear();
    }

    /// Reads one message.
    pub fn on_message(&mut self, scene: &mut Scene<'_>, message: &[u8]) {
        if self.envelope {
            return self.on_envelope(scene, message);
        }
        // Without an envelope, what has come says itself where it belongs.
        let text = String::from_utf8_lossy(message);
        let number = text.split('#').nth(1).and_then(|number| number.parse().ok());
        let number: usize = number.unwrap_or_else(|| panic!("nobody published {text:?}"));
        assert!(number < scene.truth.count(), "nobody published {text:?} yet");
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
            if gap.after == 0 && self.since.take().is_some() {
                // The server does not know what the client had.
                scene.notices -= 1;
                *follow = Follow::new(None, true);
                follow.last = Some(gap.next - 1);
                return;
            }
            return follow.announce(gap.after, gap.next);
        }
        self.since = None;
        let data = envelope.data.expect("an envelope holds data or a gap");
        let data = payload::read(scene.setup.channels[channel].namespace.data, data.get());
        let place = Place::read(envelope.epoch, envelope.offset);
        let seen = (data.as_slice(), place.offset, Some(place.epoch));
        follow.see((scene.truth, scene.setup), channel, seen);
        if place.offset > 0 {
            self.remember(scene, channel, place);
        }
    }

    fn remember(&mut self, scene: &Scene<'_>, channel: usize, place: Place) {
        if scene.setup.channels[channel].has_history() {
            self.memory.insert(channel, place);
        }
    }
}

/// A client that is closed at every gap has no holes, as far as places are known.
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
            // What has no known place may stand in between, or outside the channel's order.
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
