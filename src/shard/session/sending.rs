//! Sends bytes to clients in chunks of the sweep, handles the results for sessions, and closes
//! clients whose outboxes are too large.

use std::sync::Arc;

use super::clients::Clients;
use super::homes::Homes;
use super::{closing, gaps, heartbeat};
use crate::channel::Publication;
use crate::connection::{Flags, State};
use crate::ids::Slot;
use crate::kernel::{ConnectionKey, Release, Sockets};
use crate::limits::{PIECE_JOIN_BYTES_MAX, REPLY_BUFFER_BYTES_MAX};
use crate::reason::CloseReason;
use crate::shard::delivery::{Halt, Halted, WriteOutcome, Written};

/// Sends one chunk of the sweep.
pub fn sweep_chunk<S: Sockets>(clients: &mut Clients<S>, homes: &mut Homes) {
    let mut halted = clients.delivery.gather_chunk(&mut clients.slots);
    while let Some(Halted { key, halt }) = halted {
        match halt {
            Halt::TooSlow(reason) => closing::close(clients, key, reason),
            Halt::Gap(gap) => gaps::on_gap_reached(clients, homes, key, gap),
        }
        halted = clients.delivery.gather_on(&mut clients.slots, key);
    }
    clients.delivery.send(&mut clients.io);
    while let Some(written) =
        clients.delivery.next_written(&mut clients.slots, clients.clock.tick())
    {
        on_written(clients, &written);
    }
}

fn on_written<S: Sockets>(clients: &mut Clients<S>, written: &Written) {
    let key = written.key;
    let WriteOutcome::Sent { blocks, left } = written.outcome else {
        return closing::on_deaf(clients, key);
    };
    let connection = clients.slots.connection(key);
    let (state, flags) = (connection.state, connection.flags);
    if blocks && state == State::Connected {
        heartbeat::expect_progress(clients, key);
    }
    if left == 0 && state == State::Closing {
        closing::on_closing_sent(clients, key);
    } else if left <= clients.options.reading_bytes_max()
        && (flags.has(Flags::READABLE) || flags.has(Flags::PARKED))
        && !flags.has(Flags::WAITING)
        && !flags.has(Flags::OWING)
    {
        // The outbox has room for answers again, so the client's input continues.
        clients.input.list(&mut clients.slots, key);
    }
}

/// Closes connections until the outboxes fit the memory that the shard could lease.
pub fn keep_outboxes_within<S: Sockets>(clients: &mut Clients<S>) {
    while let Some(slot) = clients.delivery.outbox_beyond_budget(0) {
        close_fullest(clients, slot);
    }
}

/// Makes room for a reply with these publications before it is encoded, so that a shard never has
/// more than it could lease and one reply. Only connections with more than that are closed. Returns
/// whether the reply is long.
pub fn make_room<S: Sockets>(clients: &mut Clients<S>, publications: &[Arc<Publication>]) -> bool {
    let bytes: usize = publications.iter().map(|publication| publication.cost_bytes()).sum();
    if bytes <= REPLY_BUFFER_BYTES_MAX {
        return false;
    }
    while let Some(slot) = clients.delivery.outbox_beyond_budget(bytes)
        && clients.slots.tenant(slot).outbox_cost_bytes() > bytes
    {
        close_fullest(clients, slot);
    }
    true
}

fn close_fullest<S: Sockets>(clients: &mut Clients<S>, slot: Slot) {
    let connection = clients.slots.tenant(slot);
    let key = ConnectionKey { slot, generation: connection.generation };
    if matches!(connection.state, State::Closing | State::Released) {
        // The connection has already been sent its close frame.
        return closing::release(clients, key, CloseReason::OutboxesFull, Release::Abort);
    }
    closing::close(clients, key, CloseReason::OutboxesFull);
    if clients.slots.connection(key).outbox_cost_bytes() > 2 * PIECE_JOIN_BYTES_MAX {
        // A long frame has begun, and no close frame can be sent before its end.
        closing::release(clients, key, CloseReason::OutboxesFull, Release::Abort);
    }
}
