//! `compare`: several servers stay up and are loaded in turn, window by window, so that all of them
//! suffer equally from other load on the machine. On a shared machine only the ratios of each pair
//! of windows are reliable, and not the figures themselves.

mod figures;
mod report;

use super::Stretch;
use super::broadcast::{Broadcast, Load, Until};
use super::window::{Faults, Request, measure};
use crate::cli::{CompareArgs, CompareLoad, Contender, Subject};
use crate::error::Error;
use crate::fleet::{Ended, Fleet};
use crate::process::Watched;
use crate::publish::{Entrance, Publisher};
use crate::report::print;
use crate::verdict::Verdict;
use figures::{Assertion, Figures, ServerReport, ratios};
use report::CompareReport;
use std::time::Duration;

/// Number of steps in which connections are opened. It is even, so that servers end in the order in
/// which they began.
const CONNECT_STEPS: usize = 50;
const _: () = assert!(CONNECT_STEPS.is_multiple_of(2), "each step reverses the order");
/// Pause before and after each window.
const SETTLE: Duration = Duration::from_millis(300);

/// One of the compared servers.
struct Contestant {
    name: String,
    url: String,
    fleet: Fleet,
    broadcast: Option<Broadcast>,
    watched: Option<Watched>,
    request: Request,
    figures: Vec<Figures>,
    due: u64,
    error: Option<String>,
    entry: Entry,
}

/// How to publish, once all subscribers are connected.
struct Entry {
    entrance: Entrance,
    timeout: Duration,
    bytes: usize,
    channels: u32,
}

/// Runs the scenario and prints its report.
pub(crate) fn run(args: &CompareArgs) -> Result<Verdict, Error> {
    let load = match args.load {
        CompareLoad::Saturate | CompareLoad::Connect => {
            Load::Closed { outstanding: args.outstanding }
        }
        CompareLoad::Fanout | CompareLoad::Channels => Load::Open { rate: args.rate },
    };
    let request = Request {
        load: load.check()?,
        until: Until::Time(Duration::from_secs(args.seconds)),
        warmup: args.warmup,
        settle: SETTLE,
    };
    let assertions = args.assert.iter().map(|text| Assertion::parse(text));
    let assertions = assertions.collect::<Result<Vec<_>, _>>()?;
    let contenders = args.servers.iter().map(|server| Contender::parse(server));
    let contenders = contenders.collect::<Result<Vec<_>, _>>()?;
    for (at, contender) in contenders.iter().enumerate() {
        if contenders[..at].iter().any(|other| other.name == contender.name) {
            let name = &contender.name;
            return Err(Error::Usage(format!("two servers are called {name}; add name=…")));
        }
    }
    let mut contestants = Vec::with_capacity(args.servers.len());
    for contender in contenders {
        contestants.push(Contestant::enter(args, contender, request)?);
    }
    let connected = match args.load {
        CompareLoad::Connect => Ended::Done,
        _ => connect(args.common.connections, &mut contestants)?,
    };
    let ended = if connected == Ended::Done { race(args, &mut contestants) } else { connected };
    let mut servers = Vec::with_capacity(contestants.len());
    for contestant in contestants {
        servers.push(contestant.leave()?);
    }
    let ratios = ratios(&servers);
    let others = servers.iter().skip(1).map(|server| server.name.as_str()).collect::<Vec<_>>();
    let broken = assertions.iter().filter(|assertion| !assertion.holds(&ratios, &others));
    let broken_assertions = broken.map(|assertion| assertion.text.clone()).collect::<Vec<_>>();
    let faultless = servers.iter().all(|server| {
        server.error.is_none() && server.faults.count() + server.failures.count() == 0
    });
    let verdict = Verdict::of(ended, faultless && broken_assertions.is_empty());
    let report = CompareReport {
        scenario: "compare",
        load: args.describe(),
        connections: args.common.connections,
        payload_bytes: args.publish.bytes,
        seconds_per_window: args.seconds,
        servers,
        ratios,
        broken_assertions,
        ended: ended.label(),
        passed: verdict == Verdict::Passed,
    };
    print(&report, &args.common, verdict)?;
    Ok(verdict)
}

/// Connects to all servers in turn, a few connections at a time. The kernel's memory for sockets is
/// then equally scattered for all of them. Of two copies of one server, the one that was connected
/// first needed 3 % more time for each delivery. Returns `Done` or `Interrupted`.
fn connect(connections: usize, contestants: &mut [Contestant]) -> Result<Ended, Error> {
    for step in 1..=CONNECT_STEPS {
        for contestant in contestants.iter_mut() {
            let ended = contestant.fleet.ramp(connections * step / CONNECT_STEPS);
            if ended == Ended::Interrupted {
                return Ok(ended);
            }
            if ended != Ended::Done {
                let why = format!("{}: while connecting: {}", contestant.name, ended.label());
                return Err(Error::Usage(why));
            }
        }
        contestants.reverse();
    }
    for contestant in contestants.iter_mut() {
        contestant.open_publisher(connections)?;
    }
    Ok(Ended::Done)
}

/// Loads all servers in turn, every other time in reverse order.
fn race(args: &CompareArgs, contestants: &mut [Contestant]) -> Ended {
    for pair in 0..args.pairs {
        let mut order = (0..contestants.len()).collect::<Vec<_>>();
        if pair % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let contestant = &mut contestants[index];
            contestant.fleet.set_resting(false);
            let ended = match args.load {
                CompareLoad::Connect => contestant.handshakes(args.common.connections),
                _ => contestant.window(),
            };
            contestant.fleet.set_resting(true);
            if ended != Ended::Done {
                eprintln!("WARNING: {} in pair {}: {}", contestant.name, pair + 1, ended.label());
                return ended;
            }
            contestant.tell(pair + 1);
            // Answer the pings of servers that wait for their turn.
            for waiting in contestants.iter_mut() {
                waiting.tend();
            }
        }
    }
    Ended::Done
}

impl Contestant {
    /// Prepares a connection to a server.
    fn enter(
        args: &CompareArgs,
        contender: Contender,
        mut request: Request,
    ) -> Result<Self, Error> {
        if let (Load::Closed { .. }, Some(outstanding)) = (request.load, contender.outstanding) {
            request.load = Load::Closed { outstanding }.check()?;
        }
        let (mut common, publish) = (args.common.clone(), contender.publish(&args.publish));
        contender.apply(&mut common);
        let channels = if args.load == CompareLoad::Channels { args.channels } else { 1 };
        let mut subject = common.subject(common.connections, channels)?;
        let entrance = publish.entrance(&mut subject)?;
        let Subject { plan, watched, url, .. } = subject;
        let timeout = plan.timeout;
        let fleet = Fleet::start(plan)?;
        fleet.set_resting(true);
        let name = contender.name;
        Ok(Self {
            name,
            url,
            fleet,
            broadcast: None,
            watched,
            request,
            figures: Vec::new(),
            due: 0,
            error: None,
            entry: Entry { entrance, timeout, bytes: publish.bytes, channels },
        })
    }

    /// Checks that all connections are open, and opens the connections to publish on.
    fn open_publisher(&mut self, connections: usize) -> Result<(), Error> {
        let totals = self.fleet.totals();
        if totals.established != connections as u64 {
            return Err(Error::Usage(format!(
                "{}: {} of {connections} connections, {} failed",
                self.name, totals.established, totals.failed
            )));
        }
        let Entry { entrance, timeout, bytes, channels } = &self.entry;
        let publisher = Publisher::open(entrance, *timeout)?;
        self.broadcast = Some(Broadcast::new(publisher, *bytes, *channels));
        Ok(())
    }

    /// Runs one window of publications.
    fn window(&mut self) -> Ended {
        let Some(broadcast) = &mut self.broadcast else { return Ended::Broken };
        let found = measure(&mut self.fleet, broadcast, self.watched.as_ref(), self.request);
        self.due = broadcast.due(found.ended);
        self.error = found.publish_error;
        self.figures.extend(found.window.as_ref().map(Figures::of_window));
        found.ended
    }

    /// Runs one window of handshakes: all connections are opened and closed again.
    fn handshakes(&mut self, connections: usize) -> Ended {
        self.fleet.cut();
        let stretch = Stretch::begin(&self.fleet, self.watched.as_ref());
        let ended = self.fleet.ramp(connections);
        let used = stretch.end(&self.fleet, self.watched.as_ref());
        let seconds = self.fleet.ramp_seconds();
        let established = self.fleet.totals().established;
        let handshakes = self.fleet.cut().handshakes.summary();
        let gone = self.fleet.ramp(0);
        self.figures.push(Figures {
            cpu_us_per_delivery: None,
            cpu_us_per_handshake: used
                .server
                .map(|usage| usage.cpu_seconds * 1e6 / established.max(1) as f64),
            per_second: established as f64 / seconds,
            p50_us: handshakes.p50_us,
            p99_us: handshakes.p99_us,
            p999_us: handshakes.p999_us,
            generator_busiest_thread_share: used.generator.busiest_thread_share,
        });
        if ended != Ended::Done || gone != Ended::Done {
            return if ended == Ended::Done { gone } else { ended };
        }
        self.fleet.rest(SETTLE)
    }

    /// Answers pings to the publisher. A failure appears in the next window.
    fn tend(&mut self) {
        if let Some(Err(error)) = self.broadcast.as_mut().map(Broadcast::tend) {
            eprintln!("WARNING: {}: {error}", self.name);
        }
    }

    /// Prints the last window, while others are still to come.
    fn tell(&self, pair: u32) {
        if let Some(figures) = self.figures.last() {
            let cpu = figures.cpu_us_per_delivery.or(figures.cpu_us_per_handshake);
            let cpu = cpu.map(|us| format!("{us:.3} µs CPU, ")).unwrap_or_default();
            eprintln!(
                "pair {pair:2}  {:<14} {cpu}{:.0}/s, p50 {:.0} µs, p99 {:.0} µs",
                self.name, figures.per_second, figures.p50_us, figures.p99_us
            );
        }
    }

    fn leave(self) -> Result<ServerReport, Error> {
        let outcome = self.fleet.stop()?;
        let faults = Faults::new(&outcome, self.due);
        Ok(ServerReport {
            name: self.name,
            url: self.url,
            faults,
            failures: outcome.failures,
            error: self.error,
            figures: self.figures,
        })
    }
}
