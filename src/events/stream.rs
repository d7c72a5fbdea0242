//! The stream from which the application reads events.

use std::rc::Rc;
use std::sync::Arc;

use crate::cluster::Lease;
use crate::metrics::BridgeCounters;
use crate::redis::{self, Link, LinkError};
use crate::settings::Settings;

/// Appends entries.
const APPEND: &str = include_str!("scripts/append.lua");

/// An entry: names and values, which alternate.
pub(super) struct Entry(Vec<Vec<u8>>);

impl Entry {
    /// Creates an entry for `event` from the node that has `lease`.
    pub(super) fn new(event: &str, lease: &Lease) -> Entry {
        let mut entry = Entry(Vec::new());
        entry.add("event", event);
        entry.add("node", &lease.uid);
        entry.add_number("boot", lease.boot);
        entry
    }

    pub(super) fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.0.extend([name.as_bytes().to_vec(), value.as_ref().to_vec()]);
    }

    pub(super) fn add_number(&mut self, name: &str, value: u64) {
        self.add(name, value.to_string());
    }
}

/// The stream of events; see the module.
pub(crate) struct EventStream {
    pub(super) settings: Arc<Settings>,
    pub(super) redis: Rc<redis::Handle>,
    pub(super) counters: Arc<BridgeCounters>,
}

impl EventStream {
    /// Creates the handle of the stream that the settings name.
    pub(crate) fn new(
        settings: &Arc<Settings>,
        redis: &Rc<redis::Handle>,
        counters: Arc<BridgeCounters>,
    ) -> EventStream {
        EventStream { settings: Arc::clone(settings), redis: Rc::clone(redis), counters }
    }

    /// Appends entries.
    pub(super) async fn append(&self, link: &Link, entries: &[Entry]) -> Result<(), LinkError> {
        if entries.is_empty() {
            return Ok(());
        }
        let options = &self.settings.events;
        let key = options.stream.as_bytes();
        let most =
            [options.entries_max, options.bytes_max].map(|most| most.to_string().into_bytes());
        let marks = self.redis.keys().event_marks(&options.stream);
        let mut args = vec![APPEND.as_bytes().to_vec(), b"2".to_vec(), key.to_vec(), marks];
        args.extend(most);
        for Entry(texts) in entries {
            args.push(texts.len().to_string().into_bytes());
            args.extend(texts.iter().cloned());
        }
        link.call("EVAL", key, args).await?;
        self.counters.events_written.add(entries.len() as u64);
        Ok(())
    }
}
