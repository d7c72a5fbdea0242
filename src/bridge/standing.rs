//! How the bridge stands: what is wrong, for `/ready` and the metrics.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::bus::Trouble;
use crate::limits::READY_REASON_BYTES_MAX;
use crate::metrics::BridgeCounters;

/// What is wrong, the worst first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// The streams are not read.
    Unread,
    /// What the bus says.
    Bus(Trouble),
    /// A stream can't be ingested.
    Ingest,
}

/// What is known to be wrong, and what of it is shown.
pub(crate) struct Standing {
    counters: Arc<BridgeCounters>,
    /// Readers whose last read did not succeed.
    not_reading: Cell<usize>,
    /// Ingested streams whose last read did not succeed.
    not_ingesting: Cell<usize>,
    /// What Redis has said when it last refused.
    reason: RefCell<String>,
    /// What is shown to be wrong; absent if that is to be shown anew.
    shown: Cell<Option<Option<Wrong>>>,
}

/// Whether one of several things of a kind succeeds, such as one reader.
pub(crate) struct Success<'a> {
    failing: &'a Cell<usize>,
    succeeds: Cell<bool>,
}

impl Success<'_> {
    /// Of something that is taken to succeed until it fails.
    fn new(failing: &Cell<usize>) -> Success<'_> {
        Success { failing, succeeds: Cell::new(true) }
    }

    /// The last try succeeded. Returns whether the one before did not.
    pub(crate) fn succeed(&self) -> bool {
        let changed = !self.succeeds.replace(true);
        if changed {
            let failing = self.failing.get();
            assert!(failing > 0, "this one was counted");
            self.failing.set(failing - 1);
        }
        changed
    }

    /// The last try failed. Returns whether the one before did not.
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

    /// For one reader, which fails until it has read for the first time.
    pub(super) fn reader(&self) -> Success<'_> {
        let reading = Success::new(&self.not_reading);
        reading.fail();
        reading
    }

    /// For one ingested stream, which another node may read.
    pub(crate) fn ingest(&self) -> Success<'_> {
        Success::new(&self.not_ingesting)
    }

    fn wrong(&self, trouble: Option<Trouble>) -> Option<Wrong> {
        let worse = matches!(trouble, Some(Trouble::Refusing | Trouble::Away));
        if !worse && self.not_reading.get() > 0 {
            Some(Wrong::Unread)
        } else if let Some(trouble) = trouble {
            Some(Wrong::Bus(trouble))
        } else {
            (self.not_ingesting.get() > 0).then_some(Wrong::Ingest)
        }
    }

    /// Shows what is wrong, if that has changed. `trouble` is what the bus says.
    pub(super) fn show(&self, trouble: Option<Trouble>) {
        let wrong = self.wrong(trouble);
        self.counters.up.set(u64::from(matches!(wrong, None | Some(Wrong::Ingest))));
        // Until it has joined, whoever starts it says what it waits for.
        if self.counters.joined.value() == 1 && self.shown.replace(Some(wrong)) != Some(wrong) {
            let reason = self.reason.borrow();
            let text = match wrong {
                None => String::new(),
                Some(Wrong::Unread) => "Redis is away, and with it all other nodes".to_owned(),
                Some(Wrong::Bus(Trouble::Away)) => {
                    format!("Redis is away, and with it all other nodes: {reason}")
                }
                Some(Wrong::Bus(Trouble::Refusing)) => {
                    format!("Redis takes no publications: {reason}")
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

    /// Says what a node that starts waits for.
    pub(crate) fn show_start(&self, text: &str) {
        self.counters.trouble.set(&one_line(text));
    }

    /// Remembers what Redis has said, to show it if that goes on.
    pub(super) fn set_reason(&self, error: &str) {
        let line = one_line(error);
        if self.reason.replace(line.clone()) != line {
            self.shown.set(None);
        }
    }
}

/// The first line of what Redis has said, not too long.
fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line[..line.floor_char_boundary(READY_REASON_BYTES_MAX)].to_owned()
}
