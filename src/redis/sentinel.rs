//! Listens to every Sentinel for failovers, also to Sentinels that only other Sentinels name. In a
//! planned failover, the old primary accepts publications for many more seconds, and all of them
//! are lost. So as soon as one Sentinel knows the new primary, this node connects to it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::broadcast::{Receiver, error::RecvError, error::TryRecvError};
use tokio::time::{Instant, sleep_until, timeout};

use super::backoff::Backoff;
use super::link::{Link, LinkError, Server, not_an_answer, sentinels};
use super::links::Links;
use crate::bus::Reply;
use crate::limits::{
    SENTINEL_ASK_INTERVAL, SENTINEL_ASK_PAUSE, SENTINEL_SWITCH_INTERVAL, SENTINEL_TRIES_MAX,
    SENTINEL_TRUST, SENTINELS_MAX,
};
use crate::metrics::BridgeCounters;

/// Events of a failover: a Sentinel promotes a replica, it reconfigures the other replicas, and it
/// learns of a failover from another Sentinel.
const EVENTS: [&str; 3] = ["+promoted-slave", "+failover-state-reconf-slaves", "+switch-master"];

/// Reports of Sentinels, and the Sentinels to which this node listens.
pub(super) struct Sentinels {
    /// The address of Redis, which names the Sentinels.
    url: String,
    links: Rc<Links>,
    counters: Arc<BridgeCounters>,
    named: RefCell<Option<Named>>,
    /// When a Sentinel last named another primary.
    switched: Cell<Option<Instant>>,
    /// Sentinels to which the node listens, each with the time at which the node gives it up if it
    /// is unreachable. `None` for those in the settings, which are never given up.
    heard: RefCell<HashMap<Server, Option<Instant>>>,
}

/// A primary that a Sentinel has named.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    address: Server,
    /// The config-epoch, which rises with each failover. The higher one is right.
    epoch: u64,
    /// When a Sentinel last confirmed it.
    at: Instant,
}

impl Sentinels {
    /// Creates the state for the Sentinels in `url`. When a Sentinel names another primary, `links`
    /// are given up.
    pub(super) fn new(url: &str, links: Rc<Links>, counters: Arc<BridgeCounters>) -> Sentinels {
        let (named, heard) = (RefCell::default(), RefCell::default());
        Sentinels { url: url.to_owned(), links, counters, named, heard, switched: Cell::new(None) }
    }

    /// Returns the address of the primary, if a Sentinel has confirmed it recently.
    pub(super) fn address(&self) -> Option<Server> {
        let named = self.named.borrow();
        named.as_ref().filter(|named| named.is_fresh()).map(|named| named.address.clone())
    }

    /// Records the primary that a Sentinel names. Returns whether it is another one than before.
    fn note(&self, address: Server, epoch: u64) -> bool {
        let mut named = self.named.borrow_mut();
        let differs = named.as_ref().is_some_and(|before| before.address != address);
        // A Sentinel that lags behind names an older epoch. A second primary in the same epoch is
        // ignored.
        let is_stale = |before: &Named| {
            before.is_fresh() && (epoch < before.epoch || epoch == before.epoch && differs)
        };
        if named.as_ref().is_some_and(is_stale) {
            return false;
        }
        if differs {
            // Otherwise Sentinels that keep changing the primary would interrupt all connections.
            let switched = self.switched.get();
            if switched.is_some_and(|at| at.elapsed() < SENTINEL_SWITCH_INTERVAL) {
                return false;
            }
            self.switched.set(Some(Instant::now()));
        }
        *named = Some(Named { address, epoch, at: Instant::now() });
        differs
    }

    /// Records that another Sentinel reports this one as up. Returns whether the node should start
    /// to listen to it.
    fn meet(&self, sentinel: &Server) -> bool {
        let mut heard = self.heard.borrow_mut();
        let until = Instant::now() + SENTINEL_TRUST;
        if let Some(known) = heard.get_mut(sentinel) {
            *known = known.and(Some(until));
            return false;
        }
        let is_room = heard.len() < SENTINELS_MAX;
        if is_room {
            heard.insert(sentinel.clone(), Some(until));
        }
        is_room
    }

    /// Records that a Sentinel can't be reached. Returns whether the node stops listening to it. It
    /// does if the settings do not name the Sentinel, and no other Sentinel has named it for some
    /// time.
    fn gives_up(&self, sentinel: &Server) -> bool {
        let mut heard = self.heard.borrow_mut();
        let over = |until: &Option<Instant>| until.is_some_and(|until| until <= Instant::now());
        let gives_up = heard.get(sentinel).is_none_or(over);
        if gives_up {
            heard.remove(sentinel);
        }
        gives_up
    }
}

impl Named {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < SENTINEL_TRUST
    }
}

/// Listening to Sentinels.
impl Sentinels {
    /// Listens to each Sentinel in the address of Redis, if there are any, and to those that they
    /// name.
    pub(super) fn start(self: &Rc<Sentinels>) {
        if crate::sabotage!(DeafToSentinels) {
            return;
        }
        let Some((hosts, service_name)) = sentinels(&self.url) else { return };
        self.heard.borrow_mut().extend(hosts.iter().map(|host| (host.clone(), None)));
        for host in hosts {
            self.listen_to(host, &service_name);
        }
    }

    fn listen_to(self: &Rc<Sentinels>, sentinel: Server, name: &str) {
        tokio::task::spawn_local(watch(Rc::clone(self), sentinel, name.to_owned()));
    }
}

async fn watch(sentinels: Rc<Sentinels>, sentinel: Server, name: String) {
    let mut backoff = Backoff::new();
    loop {
        let error = match Link::connect_to_sentinel(&sentinels.url, &sentinel).await {
            Ok(link) => listen(&sentinels, &link, &name, &mut backoff).await,
            Err(error) => error,
        };
        if sentinels.gives_up(&sentinel) {
            return tracing::info!(%sentinel, %error, "stopped listening to a Sentinel");
        }
        if backoff.is_worth_a_line() {
            tracing::warn!(%sentinel, %error, "lost the connection to a Sentinel; retrying");
        }
        backoff.pause().await;
    }
}

/// Asks for the primary at each event and at intervals. Returns why the connection has ended.
async fn listen(
    sentinels: &Rc<Sentinels>,
    link: &Link,
    name: &str,
    backoff: &mut Backoff,
) -> LinkError {
    let mut news = match link.subscribe(&EVENTS).await {
        Ok(news) => news,
        Err(error) => return error,
    };
    loop {
        let asked = Instant::now();
        let (address, epoch) = match ask(link, name).await {
            Ok(named) => named,
            Err(error) => return error,
        };
        backoff.reset();
        if sentinels.note(address.clone(), epoch) {
            let Server { host, port, .. } = &address;
            tracing::info!(%host, port, "a Sentinel named another primary; connecting to it");
            sentinels.counters.switches.add(1);
            sentinels.links.renew();
        }
        match ask_others(link, name).await {
            Ok(others) => others.iter().filter(|other| sentinels.meet(other)).for_each(|it| {
                tracing::info!(sentinel = %it, "listening to another Sentinel");
                sentinels.listen_to(it.clone(), name);
            }),
            Err(LinkError::Refused(error)) => {
                tracing::debug!(%error, "a Sentinel did not list the other Sentinels")
            }
            Err(error) => return error,
        }
        if !wait_for_news(&mut news, asked).await || link.is_over() {
            return LinkError::Lost("the connection has ended".to_owned());
        }
    }
}

/// Waits until a Sentinel must be asked again, after it was last asked at `asked`. That is at its
/// next event, or after an interval without one, but not before the end of a pause. Returns false
/// if no events can follow.
async fn wait_for_news<T: Clone>(news: &mut Receiver<T>, asked: Instant) -> bool {
    // Neither the number of events matters, nor whether some were dropped.
    if let Ok(Err(RecvError::Closed)) = timeout(SENTINEL_ASK_INTERVAL, news.recv()).await {
        return false;
    }
    sleep_until(asked + SENTINEL_ASK_PAUSE).await;
    while matches!(news.try_recv(), Ok(_) | Err(TryRecvError::Lagged(_))) {}
    true
}

/// Returns the primary that a Sentinel names, and its config-epoch.
async fn ask(link: &Link, name: &str) -> Result<(Server, u64), LinkError> {
    // The epoch is read before and after the address, so that both belong to the same failover.
    let mut epoch = ask_epoch(link, name).await?;
    for _ in 0..SENTINEL_TRIES_MAX {
        let args = [b"GET-MASTER-ADDR-BY-NAME".to_vec(), name.as_bytes().to_vec()];
        let reply = link.call("SENTINEL", &[], args.to_vec()).await?;
        let address = match reply.list() {
            Some([host, port]) => {
                host.text().zip(port.number().and_then(|port| u16::try_from(port).ok()))
            }
            _ => None,
        };
        let (host, port) = address.ok_or_else(|| not_an_answer(&reply))?;
        let after = ask_epoch(link, name).await?;
        if epoch == after {
            return Ok((Server::new(host, port), epoch));
        }
        epoch = after;
    }
    Err(LinkError::Lost("the Sentinel's replies contradict each other".to_owned()))
}

/// Returns the other Sentinels that a Sentinel can reach.
async fn ask_others(link: &Link, name: &str) -> Result<Vec<Server>, LinkError> {
    let args = [b"SENTINELS".to_vec(), name.as_bytes().to_vec()];
    let reply = link.call("SENTINEL", &[], args.to_vec()).await?;
    let others = reply.list().ok_or_else(|| not_an_answer(&reply))?;
    Ok(others.iter().filter_map(other).take(SENTINELS_MAX).collect())
}

/// Parses the description of one Sentinel. Returns `None` if it is reported as down.
fn other(said: &Reply) -> Option<Server> {
    let pairs = said.list()?.chunks_exact(2);
    let field = |name| pairs.clone().find(|pair| pair[0].text() == Some(name)).map(|pair| &pair[1]);
    let mut flags = field("flags")?.text()?.split(',');
    if flags.any(|flag| matches!(flag, "s_down" | "o_down" | "disconnected")) {
        return None;
    }
    let port = u16::try_from(field("port")?.number()?).ok()?;
    Some(Server::new(field("ip")?.text()?, port))
}

async fn ask_epoch(link: &Link, name: &str) -> Result<u64, LinkError> {
    let args = [b"MASTER".to_vec(), name.as_bytes().to_vec()];
    let reply = link.call("SENTINEL", &[], args.to_vec()).await?;
    let mut pairs = reply.list().unwrap_or_default().chunks_exact(2);
    let epoch = pairs.find(|pair| pair[0].text() == Some("config-epoch"));
    epoch.and_then(|pair| pair[1].number()).ok_or_else(|| not_an_answer(&reply))
}

const _: () = assert!(
    SENTINEL_TRUST.as_millis() > 2 * SENTINEL_ASK_INTERVAL.as_millis(),
    "a repeated answer of a Sentinel must stay trusted"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn sentinels() -> Sentinels {
        Sentinels::new("redis-sentinel://sentinel:1", Rc::default(), Arc::default())
    }

    fn at(port: u16) -> Server {
        Server::new("redis", port)
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_failover_names_the_primary_whoever_lags_behind() {
        let sentinels = sentinels();
        assert_eq!(sentinels.address(), None);
        assert!(!sentinels.note(at(1), 4), "the first one is no change");
        assert!(sentinels.note(at(2), 5));
        tokio::time::advance(SENTINEL_SWITCH_INTERVAL).await;
        assert!(!sentinels.note(at(1), 4) && !sentinels.note(at(2), 5));
        assert_eq!(sentinels.address(), Some(at(2)));
        assert!(sentinels.note(at(1), 6));
        assert!(!sentinels.note(at(2), 5), "the Sentinel reports an older failover");
        assert_eq!(sentinels.address(), Some(at(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sentinel_that_never_stops_talking_is_asked_now_and_then() {
        let (events, mut news) = tokio::sync::broadcast::channel(8);
        let began = Instant::now();
        let talking = tokio::spawn(async move {
            for _ in 0..3000 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                events.send(()).expect("somebody listens");
            }
            Instant::now()
        });
        let (mut asked, mut times) = (Instant::now(), Vec::new());
        while wait_for_news(&mut news, asked).await {
            asked = Instant::now();
            times.push(asked);
        }
        let most = 3000 / SENTINEL_ASK_PAUSE.as_millis() as usize + 2;
        assert!(times.len() <= most && times.len() > most / 2, "{} times", times.len());
        let last = talking.await.expect("it ends");
        assert!(times.last() >= Some(&last), "the last event also causes a question");
        assert!(times[0] - began < 2 * SENTINEL_ASK_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn news_after_a_silence_are_asked_about_at_once() {
        let (events, mut news) = tokio::sync::broadcast::channel(8);
        let asked = Instant::now();
        tokio::time::advance(SENTINEL_ASK_PAUSE).await;
        events.send(()).expect("somebody listens");
        let heard = Instant::now();
        assert!(wait_for_news(&mut news, asked).await);
        assert_eq!(heard.elapsed(), std::time::Duration::ZERO);
        let silent = Instant::now();
        assert!(wait_for_news(&mut news, silent).await);
        assert_eq!(silent.elapsed(), SENTINEL_ASK_INTERVAL, "no event was left");
    }

    #[tokio::test(start_paused = true)]
    async fn the_primary_does_not_change_again_and_again() {
        let sentinels = sentinels();
        sentinels.note(at(1), 0);
        let changes = (1..1000).filter(|number| sentinels.note(at(number % 2), u64::from(*number)));
        assert_eq!(changes.count(), 1);
        tokio::time::advance(SENTINEL_SWITCH_INTERVAL).await;
        assert!(sentinels.note(at(1), 1001));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_says_any_more_is_not_trusted() {
        let sentinels = sentinels();
        sentinels.note(at(1), 4);
        tokio::time::advance(SENTINEL_TRUST).await;
        assert_eq!(sentinels.address(), None);
        assert!(sentinels.note(at(2), 0), "the Sentinels were reconfigured");
        assert_eq!(sentinels.address(), Some(at(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_met_is_listened_to_once_and_for_as_long_as_others_name_it() {
        let sentinels = sentinels();
        let [named, met] = [1, 2].map(|port| Server::new("sentinel", port));
        sentinels.heard.borrow_mut().insert(named.clone(), None);
        assert!(!sentinels.meet(&named) && sentinels.meet(&met) && !sentinels.meet(&met));
        assert!(!sentinels.gives_up(&met));
        tokio::time::advance(SENTINEL_TRUST).await;
        assert!(!sentinels.gives_up(&named) && sentinels.gives_up(&met));
        assert!(sentinels.meet(&met), "it is back");
    }

    #[test]
    fn no_more_are_listened_to_than_the_limit_allows() {
        let sentinels = sentinels();
        let met = (0..100).filter(|port| sentinels.meet(&Server::new("sentinel", *port)));
        assert_eq!(met.count(), SENTINELS_MAX);
    }

    #[test]
    fn a_sentinel_that_is_away_or_makes_no_sense_is_left_out() {
        let said = |flags: &str, port: &str| {
            let words = ["name", "x", "ip", "10.0.0.7", "port", port, "flags", flags];
            Reply::List(words.map(|word| Reply::Bytes(word.as_bytes().into())).into())
        };
        assert_eq!(other(&said("sentinel", "26379")), Some(Server::new("10.0.0.7", 26379)));
        for flags in ["s_down,sentinel", "sentinel,disconnected", "o_down"] {
            assert_eq!(other(&said(flags, "26379")), None);
        }
        assert_eq!(other(&said("sentinel", "66000")), None);
        assert_eq!(other(&Reply::List(Vec::new())), None);
    }
}
