//! Health of the bridge, for `/ready` and the metrics.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::bus::Trouble;
use crate::limits::READY_REASON_BYTES_MAX;
use crate::metrics::BridgeCounters;

/// A problem of the bridge.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// The streams can't be read.
    Unread,
    /// The bus reports a problem.
    Bus(Trouble),
    /// A stream can't be ingested.
    Ingest,
}

/// The known problems, and the one that is shown.
pub(crate) struct Standing {
    counters: Arc<BridgeCounters>,
    /// Number of readers whose last read failed.
    not_reading: Cell<usize>,
    /// Number of ingested streams whose last read failed.
    not_ingesting: Cell<usize>,
    /// The last error of a call or a connection to Redis.
    reason: RefCell<String>,
    /// The problem that is shown. The outer `None` means that it must be shown again.
    shown: Cell<Option<Option<Wrong>>>,
}

/// Whether one of several tasks of a kind succeeds, such as one reader.
pub(crate) struct Success<'a> {
    failing: &'a Cell<usize>,
    succeeds: Cell<bool>,
}

impl Success<'_> {
    /// Creates the state of a task that counts as successful until it fails.
    fn new(failing: &Cell<usize>) -> Success<'_> {
        Success { failing, succeeds: Cell::new(true) }
    }

    /// Records a success. Returns whether the last attempt had failed.
    pub(crate) fn succeed(&self) -> bool {
        let changed = !self.succeeds.replace(true);
        if changed {
            let failing = self.failing.get();
            assert!(failing > 0, "a failing task is counted");
            self.failing.set(failing - 1);
        }
        changed
    }

    /// Records a failure. Returns whether the last attempt had succeeded.
    pub(crate) fn fail(&self) -> bool {
        let changed = self.succeeds.replace(false);
        if changed {
            self.failing.set(self.failing.get() + 1);
        }
        changed
    }
}

impl Standing {
    pub(super) fn new(counters: Arc<BridgeCounters>) -> Standing {
        Standing {
            counters,
            not_reading: Cell::new(0),
            not_ingesting: Cell::new(0),
            reason: RefCell::default(),
            shown: Cell::new(None),
        }
    }

    /// Returns the state of one reader, which counts as failing until it has read for the first
    /// time.
    pub(super) fn reader(&self) -> Success<'_> {
        let reading = Success::new(&self.not_reading);
        reading.fail();
        reading
    }

    /// Returns the state of one ingested stream. It starts as successful, because another node may
    /// read it.
    pub(crate) fn ingest(&self) -> Success<'_> {
        Success::new(&self.not_ingesting)
    }

    fn wrong(&self, trouble: Option<Trouble>) -> Option<Wrong> {
        // These two are worse than failing reads, or cause them.
        let worse = matches!(trouble, Some(Trouble::Refusing | Trouble::Away));
        if !worse && self.not_reading.get() > 0 {
            Some(Wrong::Unread)
        } else if let Some(trouble) = trouble {
            Some(Wrong::Bus(trouble))
        } else {
            (self.not_ingesting.get() > 0).then_some(Wrong::Ingest)
        }
    }

    /// Shows the worst problem, if it has changed. `trouble` is that of the bus.
    pub(super) fn show(&self, trouble: Option<Trouble>) {
        let wrong = self.wrong(trouble);
        self.counters.up.set(u64::from(matches!(wrong, None | Some(Wrong::Ingest))));
        // Before the node has joined, the starting code reports what it waits for.
        if self.counters.joined.value() == 1 && self.shown.replace(Some(wrong)) != Some(wrong) {
            let reason = self.reason.borrow();
            let text = match wrong {
                None => String::new(),
                Some(Wrong::Unread) => "Redis and all other nodes are unreachable".to_owned(),
                Some(Wrong::Bus(Trouble::Away)) => {
                    format!("Redis and all other nodes are unreachable: {reason}")
                }
                Some(Wrong::Bus(Trouble::Refusing)) => {
                    format!("Redis accepts no publications: {reason}")
                }
                Some(Wrong::Bus(Trouble::Apart)) => {
                    "connections lead to different Redis servers".to_owned()
                }
                Some(Wrong::Bus(Trouble::Late)) => {
                    "publications arrive more than 2 s late".to_owned()
                }
                Some(Wrong::Ingest) => "an ingest stream can't be read; see the log".to_owned(),
            };
            self.counters.trouble.set(&text);
        }
    }

    /// Shows what a starting node waits for.
    pub(crate) fn show_start(&self, text: &str) {
        self.counters.trouble.set(&one_line(text));
    }

    /// Records the last error of a call or a connection, which is shown if the problem lasts.
    pub(super) fn set_reason(&self, error: &str) {
        let line = one_line(error);
        if self.reason.replace(line.clone()) != line {
            self.shown.set(None);
        }
    }
}

/// Returns the first line of a text, shortened if necessary.
fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line[..line.floor_char_boundary(READY_REASON_BYTES_MAX)].to_owned()
}
