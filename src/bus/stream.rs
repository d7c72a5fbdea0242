//! The state of the bus for one stream.

use super::EntryId;
use super::cursor::StreamCursor;
use super::locate::Locator;
use super::older::Reads;
use super::probe::RunId;
use super::unread::UnreadEntries;
use super::writer::{Waiter, Writer};
use crate::mesh::Published;

/// State of one stream.
#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) cursor: StreamCursor,
    pub(super) writer: Writer,
    pub(super) locator: Locator,
    pub(super) older: Reads,
    /// Whether the server may have changed since the stream was last fenced.
    pub(super) unfenced: bool,
    pub(super) fencing: bool,
    /// The stream must pass this point, because an epoch in which an offset was given twice must
    /// end.
    pub(super) above: EntryId,
    pub(super) appending: bool,
    pub(super) locating: bool,
    /// The processes behind the writer's and the reader's connections, while they are known.
    pub(super) writer_run: Option<RunId>,
    pub(super) reader_run: Option<RunId>,
    /// Known entries that the reader has not passed.
    pub(super) unread: UnreadEntries,
    /// Whether the reader's server lacks entries that the writer's server has acknowledged.
    pub(super) absent: bool,
    /// Whether the writer's server refuses batches.
    pub(super) ill: bool,
    /// Whether shards were told that the reader is late.
    pub(super) told_late: bool,
    /// Milliseconds between the append of the last entry and its reading, by both clocks.
    pub(super) read_lag_millis: u64,
    /// Answers for ingest that wait until the reader has passed the entry.
    pub(super) unconfirmed: Vec<(EntryId, Waiter, Published)>,
}

impl StreamState {
    pub(super) fn new(stream: usize, publisher: u64) -> StreamState {
        StreamState {
            cursor: StreamCursor::default(),
            writer: Writer::new(stream, publisher),
            locator: Locator::default(),
            older: Reads::default(),
            unfenced: true,
            fencing: false,
            above: EntryId::default(),
            appending: false,
            locating: false,
            writer_run: None,
            reader_run: None,
            unread: UnreadEntries::default(),
            absent: false,
            ill: false,
            told_late: false,
            read_lag_millis: 0,
            unconfirmed: Vec::new(),
        }
    }
}
