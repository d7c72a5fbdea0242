//! A client with Centrifugo's protocol: its requests, the messages that it accepts, and the
//! positions that it keeps between connections.

use std::collections::{BTreeMap, VecDeque};

use super::follow::Follow;
use super::payload;
use super::replies::{Error, Publication, Push, Reply, Subscribe};
use super::scene::Scene;
use super::truth::{Place, Publisher};
use super::verdict;

/// A request without a reply so far.
#[derive(Debug)]
pub enum Ask {
    Connect {
        /// Channels that the application is taken to have subscribed the client to.
        resumed: Vec<(usize, Option<Place>)>,
    },
    Subscribe {
        channel: usize,
        since: Option<Place>,
        wishes: Wishes,
    },
    Unsubscribe {
        channel: usize,
    },
    Publish {
        number: usize,
    },
    History {
        channel: usize,
        page: Page,
    },
    /// A request that must fail with this error.
    Refused {
        code: u32,
    },
}

/// Options of a subscription besides recovery.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    pub positioned: bool,
    pub recoverable: bool,
    /// Requires error 112 instead of a subscription that could not recover.
    pub strict: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Page {
    pub limit: i32,
    pub since: Option<Place>,
    pub reverse: bool,
}

#[derive(Default)]
pub struct Centrifugo {
    next_id: u32,
    asked: VecDeque<(u32, Ask)>,
    /// Commands that are not in frames yet.
    pub lines: Vec<String>,
    pub client: Option<String>,
    pub subscribed: BTreeMap<usize, Follow>,
    /// Positions that outlive the connection.
    pub memory: BTreeMap<usize, Place>,
    /// Channels that the client subscribes to again and again, whatever happens.
    pub wanted: Vec<usize>,
    /// Whether subscriptions of this connection count as made by the application.
    pub resumes: bool,
    /// Whether all wanted channels are taken for such subscriptions in each connection.
    pub always_resumes: bool,
    /// Number of pings since frames were last sent.
    pub pings: usize,
    /// Codes of errors and of ended subscriptions, for tests that check them.
    pub told: Vec<u32>,
}

impl Centrifugo {
    /// Creates a client that subscribes to these channels.
    pub fn new(wanted: Vec<usize>) -> Centrifugo {
        Centrifugo { wanted, ..Centrifugo::default() }
    }

    /// Sends a request.
    pub fn ask(&mut self, body: &str, ask: Ask) {
        self.next_id += 1;
        self.asked.push_back((self.next_id, ask));
        self.lines.push(format!(r#"{{"id":{},{body}}}"#, self.next_id));
    }

    /// Asks for a session. Sometimes some of the wanted channels are taken for subscriptions that
    /// the application made before.
    pub fn connect(&mut self, scene: &mut Scene<'_>) {
        let mut resumed = Vec::new();
        let resumes = self.always_resumes || !self.wanted.is_empty() && scene.chance(40);
        for &channel in self.wanted.iter().filter(|_| resumes) {
            let namespace = &scene.setup.channels[channel].namespace;
            if namespace.allow_subscribe_for_anonymous && (self.always_resumes || scene.chance(50))
            {
                let place = self.memory.get(&channel).copied();
                resumed.push((channel, place.filter(|_| scene.chance(80))));
            }
        }
        self.connect_with(scene, resumed);
    }

    /// Asks for a session with these subscriptions.
    pub fn connect_with(&mut self, scene: &Scene<'_>, resumed: Vec<(usize, Option<Place>)>) {
        let sub = |(channel, since): &(usize, Option<Place>)| {
            let name = &scene.setup.channels[*channel].name;
            let recover = since.map_or(String::new(), |Place { epoch, offset }| {
                format!(r#""recover":true,"epoch":"{epoch:x}","offset":{offset}"#)
            });
            format!(r#""{name}":{{{recover}}}"#)
        };
        let subs = resumed.iter().map(sub).collect::<Vec<_>>().join(",");
        self.resumes = !resumed.is_empty();
        self.ask(&format!(r#""connect":{{"subs":{{{subs}}}}}"#), Ask::Connect { resumed });
    }

    pub fn subscribe(
        &mut self,
        scene: &Scene<'_>,
        (channel, since): (usize, Option<Place>),
        wishes: Wishes,
    ) {
        let name = &scene.setup.channels[channel].name;
        let mut body = format!(r#""subscribe":{{"channel":"{name}""#);
        if let Some(Place { epoch, offset }) = since {
            body.push_str(&format!(r#","recover":true,"epoch":"{epoch:x}","offset":{offset}"#));
        }
        for (wish, text) in [
            (wishes.positioned, r#","positioned":true"#),
            (wishes.recoverable, r#","recoverable":true"#),
            (wishes.strict, r#","flag":2"#),
        ] {
            body.push_str(if wish { text } else { "" });
        }
        body.push('}');
        self.ask(&body, Ask::Subscribe { channel, since, wishes });
    }

    pub fn unsubscribe(&mut self, scene: &Scene<'_>, channel: usize) {
        let name = &scene.setup.channels[channel].name;
        let body = format!(r#""unsubscribe":{{"channel":"{name}"}}"#);
        self.ask(&body, Ask::Unsubscribe { channel });
    }

    pub fn publish(&mut self, scene: &mut Scene<'_>, channel: usize, publisher: Publisher) {
        let number = scene.invoke(channel, publisher);
        let super::setup::Channel { name, namespace } = &scene.setup.channels[channel];
        let data = payload::write(namespace.data, &scene.truth.attempt(number).data);
        let body = format!(r#""publish":{{"channel":"{name}","data":{data}}}"#);
        self.ask(&body, Ask::Publish { number });
    }

    pub fn history(&mut self, scene: &Scene<'_>, channel: usize, page: Page) {
        let name = &scene.setup.channels[channel].name;
        let mut body = format!(r#""history":{{"channel":"{name}","limit":{}"#, page.limit);
        if let Some(Place { epoch, offset }) = page.since {
            body.push_str(&format!(r#","since":{{"epoch":"{epoch:x}","offset":{offset}}}"#));
        }
        body.push_str(if page.reverse { r#","reverse":true}"# } else { "}" });
        self.ask(&body, Ask::History { channel, page });
    }

    /// Whether the client waits for a subscription to this channel.
    pub fn is_subscribing(&self, channel: usize) -> bool {
        self.asked.iter().any(|(_, ask)| match ask {
            Ask::Subscribe { channel: other, .. } => *other == channel,
            Ask::Connect { resumed } => resumed.iter().any(|(other, _)| *other == channel),
            _ => false,
        })
    }

    pub fn is_waiting(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Returns requests without a reply, for failure messages.
    pub fn asked(&self) -> &VecDeque<(u32, Ask)> {
        &self.asked
    }

    /// Called when the connection is closed. A channel that is refused is not wanted any more.
    pub fn on_close(&mut self, scene: &Scene<'_>, text: &str) {
        let refused = |channel: &usize| verdict::names(scene, text, *channel);
        if verdict::names_limit(text) {
            self.wanted.retain(|channel| !refused(channel));
        }
    }

    /// Called when the connection ends. Only positions are kept.
    pub fn end(&mut self) {
        self.subscribed.clear();
        self.asked.clear();
        self.lines.clear();
        self.next_id = 0;
        self.client = None;
        self.resumes = false;
        self.pings = 0;
    }

    /// Reads one frame: one or more lines.
    pub fn on_text(&mut self, scene: &mut Scene<'_>, text: &[u8]) {
        let text = std::str::from_utf8(text).expect("a text frame is UTF-8");
        for line in text.split('\n') {
            let reply: Reply<'_> =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
            self.on_reply(scene, reply, line);
        }
    }

    fn on_reply(&mut self, scene: &mut Scene<'_>, reply: Reply<'_>, line: &str) {
        if let Some(push) = reply.push {
            return self.on_push(scene, push);
        }
        if line == "{}" {
            self.pings += 1;
            return;
        }
        let (id, ask) =
            self.asked.pop_front().unwrap_or_else(|| panic!("unexpected reply: {line:?}"));
        assert_eq!(reply.id, id, "replies come in the order of requests: {line:?} for {ask:?}");
        if let Some(error) = reply.error {
            return self.on_error(scene, &ask, &error);
        }
        match ask {
            Ask::Connect { resumed } => {
                let connect = reply.connect.expect("a connect reply");
                assert!(!connect.version.is_empty(), "SDKs need a version");
                assert_eq!(connect.pong, connect.ping > 0, "pongs answer pings");
                self.client = Some(connect.client.to_owned());
                assert_eq!(
                    connect.subs.len(),
                    resumed.len(),
                    "all that are allowed, and no others"
                );
                // The application asks for all features.
                let wishes = Wishes { positioned: true, recoverable: true, strict: false };
                for (channel, since) in resumed {
                    let reply = &connect.subs[scene.setup.channels[channel].name.as_str()];
                    self.on_subscribed(scene, channel, (since, wishes), reply);
                }
            }
            Ask::Subscribe { channel, since, wishes } => {
                let reply = reply.subscribe.expect("a subscribe reply");
                self.on_subscribed(scene, channel, (since, wishes), &reply);
            }
            Ask::Unsubscribe { channel } => {
                reply.unsubscribe.expect("an unsubscribe reply");
                self.forget(channel);
            }
            Ask::Publish { number } => {
                reply.publish.expect("a publish reply");
                scene.truth.acked(number, None);
            }
            Ask::History { channel, page } => {
                let reply = reply.history.expect("a history reply");
                let top = Place::read(reply.epoch, reply.offset);
                on_history(scene, (channel, page), &reply.publications, top);
            }
            Ask::Refused { code } => panic!("error {code} was expected: {line:?}"),
        }
    }

    fn on_error(&mut self, scene: &mut Scene<'_>, ask: &Ask, error: &Error<'_>) {
        assert!(!error.message.is_empty(), "SDKs need a message");
        assert_eq!(error.temporary, matches!(error.code, 100 | 111), "{}", error.message);
        self.told.push(error.code);
        let expected = match ask {
            Ask::Subscribe { channel, .. } if error.code == 111 && scene.setup.lacks_channels() => {
                self.wanted.retain(|other| other != channel);
                111
            }
            Ask::Publish { .. } | Ask::History { .. } | Ask::Refused { .. }
                if error.code == 111 && scene.setup.lacks_channels() =>
            {
                111
            }
            Ask::Subscribe { channel, .. } if self.subscribed.contains_key(channel) => 105,
            Ask::Subscribe { .. } | Ask::Refused { code: 102 } if error.code == 106 => {
                let count = self.subscribed.len();
                if let Ask::Subscribe { channel, .. } = ask {
                    self.wanted.retain(|other| other != channel);
                }
                assert!(
                    count >= scene.setup.options.client().channels_max,
                    "{count} is not too many"
                );
                106
            }
            Ask::Subscribe { channel, since, wishes } => {
                let namespace = &scene.setup.channels[*channel].namespace;
                let recovers = wishes.strict && since.is_some() && namespace.has_history();
                match namespace.allow_subscribe_for_anonymous {
                    false => 103,
                    true if recovers => {
                        self.memory.remove(channel);
                        112
                    }
                    true => 0,
                }
            }
            Ask::History { channel, .. } if !scene.setup.channels[*channel].has_history() => 108,
            Ask::History { page, .. } if page.reverse && error.code == 107 => 107,
            Ask::History { page, .. } if page.since.is_some() => 112,
            Ask::Refused { code } => *code,
            _ => 0,
        };
        assert_eq!(error.code, expected, "{} was not expected for {ask:?}", error.message);
    }

    fn on_subscribed(
        &mut self,
        scene: &mut Scene<'_>,
        channel: usize,
        (since, wishes): (Option<Place>, Wishes),
        reply: &Subscribe<'_>,
    ) {
        let namespace = &scene.setup.channels[channel].namespace;
        let name = &scene.setup.channels[channel].name;
        assert!(!self.subscribed.contains_key(&channel), "{name} is subscribed twice");
        let kept = namespace.has_history();
        let recoverable = kept
            && (namespace.force_recovery
                || namespace.allow_recovery && (wishes.recoverable || since.is_some()));
        let positioned = recoverable
            || kept
                && (namespace.force_positioning
                    || namespace.allow_positioning && wishes.positioned);
        assert_eq!((reply.recoverable, reply.positioned), (recoverable, positioned), "{name}");
        assert_eq!(reply.was_recovering, since.is_some(), "{name}");
        assert!(since.is_some() || !reply.recovered, "{name} recovered without a request");
        assert!(reply.recovered || reply.publications.is_empty(), "{name}: no partial recovery");
        assert!(recoverable || !reply.recovered, "{name} can't recover");
        let place = positioned.then(|| Place::read(reply.epoch, reply.offset));
        if reply.recovered {
            assert_eq!(place, since, "{name} continues at the client's position");
        }
        let mut follow = Follow::new(place, positioned);
        for publication in &reply.publications {
            see(&mut follow, scene, channel, publication);
        }
        self.subscribed.insert(channel, follow);
        self.remember(scene, channel);
    }

    fn on_push(&mut self, scene: &mut Scene<'_>, push: Push<'_>) {
        let channel = scene.setup.find(push.channel);
        let follow = self.subscribed.get_mut(&channel);
        let follow = follow.unwrap_or_else(|| panic!("{} is not subscribed", push.channel));
        if let Some(publication) = push.publication {
            see(follow, scene, channel, &publication);
            return self.remember(scene, channel);
        }
        let unsubscribe = push.unsubscribe.expect("a push is a publication or an end");
        assert!(!unsubscribe.reason.is_empty(), "SDKs need a reason");
        self.told.push(unsubscribe.code);
        match unsubscribe.code {
            2500 => {
                assert!(follow.strict, "{} has no position to miss anything of", push.channel);
                scene.notices += 1;
            }
            2000 => assert!(
                scene.truth.unsubscribed.iter().any(|one| one.is_none_or(|one| one == channel)),
                "control has not ended {}",
                push.channel
            ),
            other => panic!("no subscription ends with {other}"),
        }
        self.forget(channel);
    }

    fn remember(&mut self, scene: &Scene<'_>, channel: usize) {
        if !scene.setup.channels[channel].has_history() {
            return;
        }
        let follow = &self.subscribed[&channel];
        if let (Some(epoch), Some(offset)) = (follow.epoch, follow.last) {
            self.memory.insert(channel, Place { epoch, offset });
        }
    }

    fn forget(&mut self, channel: usize) {
        self.subscribed.remove(&channel);
    }
}

fn see(follow: &mut Follow, scene: &mut Scene<'_>, channel: usize, publication: &Publication<'_>) {
    let namespace = &scene.setup.channels[channel].namespace;
    let data = payload::read(namespace.data, publication.data.get());
    assert!(namespace.has_history() || publication.offset == 0, "offsets are for histories");
    let epoch = publication.epoch.map(|epoch| Place::read(epoch, 1).epoch);
    assert!(epoch.is_none() || publication.offset == 1, "the first publication has the epoch");
    // The client of a subscription without positions is not told of a new epoch.
    let epoch = epoch.filter(|_| follow.strict);
    if let Some(info) = &publication.info {
        assert!(info.user.is_empty() && info.client.len() == 36, "who published");
    }
    follow.see((scene.truth, scene.setup), channel, (&data, publication.offset, epoch));
}

fn on_history(
    scene: &mut Scene<'_>,
    (channel, page): (usize, Page),
    publications: &[Publication<'_>],
    top: Place,
) {
    let data_type = scene.setup.channels[channel].namespace.data;
    let most = usize::try_from(page.limit).unwrap_or(usize::MAX);
    assert!(publications.len() <= most, "a page holds no more than was asked for");
    let mut last: Option<u64> = None;
    for publication in publications {
        let data = payload::read(data_type, publication.data.get());
        let place = Place { epoch: top.epoch, offset: publication.offset };
        scene.truth.received(channel, &data, Some(place));
        assert!(place.offset <= top.offset, "nothing is above the top");
        let step = if page.reverse { u64::wrapping_sub } else { u64::wrapping_add };
        if let Some(last) = last {
            assert_eq!(place.offset, step(last, 1), "a page has no holes");
        }
        let since = page.since.map(|since| since.offset);
        let beyond = |since| if page.reverse { place.offset < since } else { place.offset > since };
        assert!(since.is_none_or(beyond), "{since:?} is not on the page itself");
        last = Some(place.offset);
    }
}
