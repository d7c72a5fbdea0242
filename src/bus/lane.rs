//! What the bus knows of one stream.

use super::EntryId;
use super::follow::Follow;
use super::locate::Locator;
use super::older::Reads;
use super::writer::Writer;

/// One stream.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) follow: Follow,
    pub(super) writer: Writer,
    pub(super) locator: Locator,
    pub(super) older: Reads,
    /// Whether the server that is asked may have changed since the stream was last fenced.
    pub(super) unfenced: bool,
    pub(super) fencing: bool,
    /// What the stream must be above: an epoch in which a place was given twice must end.
    pub(super) above: EntryId,
    pub(super) appending: bool,
    pub(super) locating: bool,
}

impl Lane {
    pub(super) fn new(stream: usize, publisher: u64) -> Lane {
        Lane {
            follow: Follow::default(),
            writer: Writer::new(stream, publisher),
            locator: Locator::default(),
            older: Reads::default(),
            unfenced: true,
            fencing: false,
            above: EntryId::default(),
            appending: false,
            locating: false,
        }
    }
}
