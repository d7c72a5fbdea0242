//! Probes: whether the server behind a connection would accept a batch, and which process it is.

use super::arguments::named_arguments;
use super::{EntryId, Keys, Reply};
use crate::ids::Moment;
use crate::limits::{BUS_PROBE_AGAIN, BUS_PROBE_INTERVAL, BUS_PROBES_TO_SWITCH};

/// A process of Redis, by the first 64 bits of its `run_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunId(u64);

impl RunId {
    /// Creates the id of a process from a number.
    pub const fn new(number: u64) -> RunId {
        RunId(number)
    }

    /// Parses a `run_id` as `INFO` prints it.
    pub fn parse(text: &str) -> Option<RunId> {
        u64::from_str_radix(text.get(..16)?, 16).ok().map(RunId)
    }
}

/// A check whether a batch would be appended to a stream.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Index of the stream.
    pub stream: usize,
}

/// Reply of a server that would append a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// The server process that replied.
    pub run: RunId,
    /// The stream's last entry.
    pub tail: EntryId,
    /// The server's policy when its memory is full; empty if it does not report one.
    pub policy: String,
}

named_arguments! {
    /// Keys of the script.
    KEYS: struct ProbeKeys {
        stream_key,
        meta_key,
        /// A key that nothing else uses.
        probe_key,
    }
}

impl Probe {
    /// Returns the keys of the script.
    pub fn keys(self, keys: &Keys) -> Vec<Vec<u8>> {
        let keys = ProbeKeys {
            stream_key: keys.stream(self.stream),
            meta_key: keys.meta(self.stream),
            probe_key: keys.probe(self.stream),
        };
        keys.into_list()
    }

    /// Parses the script's reply. Returns `None` if it has another form.
    pub fn answer(reply: &Reply) -> Option<Probed> {
        let [run, epoch, number, policy] = reply.list()? else { return None };
        let tail = EntryId { epoch: epoch.number()?, number: number.number()? };
        Some(Probed { run: RunId::parse(run.text()?)?, tail, policy: policy.text()?.to_owned() })
    }
}

/// Result of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server accepts batches.
    Well,
    /// The server refuses batches.
    Ill,
}

/// Whether a server accepts batches. One probe alone does not change it, so a short fault does not
/// make the bus refuse publications.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Health {
    ill: bool,
    /// Number of results in a row that contradict `ill`.
    against: u32,
}

impl Health {
    /// Returns a value that is greater for the worse of two servers.
    pub(super) fn rank(self) -> (bool, u32) {
        (self.ill, self.against)
    }

    /// Records a result. Returns whether `ill` has changed.
    fn note(&mut self, verdict: Verdict) -> bool {
        let ill = verdict == Verdict::Ill;
        if ill == self.ill {
            self.against = 0;
            return false;
        }
        self.against += 1;
        if self.against < BUS_PROBES_TO_SWITCH {
            return false;
        }
        (self.ill, self.against) = (ill, 0);
        true
    }
}

/// One server, with its streams and its probes.
#[derive(Debug)]
pub(super) struct Master {
    streams: Vec<usize>,
    health: Health,
    due: Moment,
    under_way: bool,
    /// Index of the stream to probe next, so that each one gets its turn.
    turn: usize,
}

impl Master {
    /// Creates a server with these streams, on a new connection. `health` is that of the server
    /// that had them before, because a server that refuses may close the connection each time.
    pub(super) fn new(streams: Vec<usize>, now: Moment, health: Health) -> Master {
        Master { streams, health, due: now, under_way: false, turn: 0 }
    }

    pub(super) fn streams(&self) -> &[usize] {
        &self.streams
    }

    pub(super) fn health(&self) -> Health {
        self.health
    }

    pub(super) fn is_ill(&self) -> bool {
        self.health.ill
    }

    /// Makes the next probe due immediately, after an append was refused.
    pub(super) fn hurry(&mut self, now: Moment) {
        self.due = self.due.min(now);
    }

    /// Returns the next probe, if it is due and none is in progress.
    pub(super) fn probe(&mut self, now: Moment, is_ready: impl Fn(usize) -> bool) -> Option<Probe> {
        if self.under_way || self.due > now {
            return None;
        }
        let count = self.streams.len();
        let mut order = (0..count).map(|step| (self.turn + step) % count);
        let at = order.find(|&at| is_ready(self.streams[at]))?;
        (self.turn, self.under_way, self.due) = (at + 1, true, now.after(BUS_PROBE_INTERVAL));
        Some(Probe { stream: self.streams[at] })
    }

    /// Handles the result of a probe. `None` if it says nothing about the server. Returns whether
    /// the server has become ill or well.
    pub(super) fn on_answer(&mut self, now: Moment, verdict: Option<Verdict>) -> bool {
        self.under_way = false;
        let changed = verdict.is_some_and(|verdict| self.health.note(verdict));
        // A server in doubt is probed again soon, so that a verdict takes less than an interval.
        if self.health.against > 0 || verdict.is_none() {
            self.due = self.due.min(now.after(BUS_PROBE_AGAIN));
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_answers_in_a_row_make_a_server_ill_and_two_make_it_well() {
        let (mut health, mut seen) = (Health::default(), Vec::new());
        for well in [false, true, false, false, true, false, true, true, false] {
            health.note(if well { Verdict::Well } else { Verdict::Ill });
            seen.push(health.ill);
        }
        assert_eq!(seen, [false, false, false, true, true, true, true, false, false]);
    }

    #[test]
    fn a_server_is_asked_once_a_second_and_sooner_while_it_is_in_doubt() {
        let now = Moment::from_nanos(1_000_000_000);
        let mut master = Master::new(vec![3, 5], now, Health::default());
        let stream =
            |master: &mut Master, now| master.probe(now, |_| true).map(|probe| probe.stream);
        assert_eq!(stream(&mut master, now), Some(3));
        assert_eq!(
            stream(&mut master, now.after(BUS_PROBE_INTERVAL)),
            None,
            "only one probe is in progress"
        );
        assert!(!master.on_answer(now, Some(Verdict::Well)));
        assert_eq!(stream(&mut master, now.after(BUS_PROBE_INTERVAL / 2)), None);
        master.hurry(now);
        assert_eq!(stream(&mut master, now), Some(5));
        assert!(!master.on_answer(now, Some(Verdict::Ill)));
        let soon = now.after(BUS_PROBE_AGAIN);
        assert_eq!(stream(&mut master, soon), Some(3));
        let mut again = Master::new(vec![5], soon, master.health());
        assert!(again.on_answer(soon, Some(Verdict::Ill)) && again.is_ill(), "a new connection");
        assert!(master.on_answer(soon, Some(Verdict::Ill)) && master.is_ill());
        assert_eq!(
            stream(&mut master, soon.after(BUS_PROBE_AGAIN)),
            None,
            "no result contradicts the state"
        );
    }

    #[test]
    fn an_answer_names_the_process_and_the_end_of_the_stream() {
        let bytes = |text: &str| Reply::Bytes(text.as_bytes().to_vec());
        let run = "00000000000000ff0000000000000000ffffffff";
        let reply = Reply::List([run, "7", "9", "noeviction"].map(bytes).to_vec());
        let tail = EntryId { epoch: 7, number: 9 };
        let expected = Probed { run: RunId::new(255), tail, policy: "noeviction".to_owned() };
        assert_eq!(Probe::answer(&reply), Some(expected));
        assert_eq!(Probe::answer(&Reply::Nil), None);
        assert_eq!(RunId::parse("00"), None);
    }
}
