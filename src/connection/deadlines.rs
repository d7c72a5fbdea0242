//! The deadlines of a session. A slot stores only the earliest of them.

use std::time::Duration;

use super::{Connection, Flags};
use crate::ids::Tick;
use crate::limits::UNREAD_TIMEOUT;

/// An event for which a session has a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A client whose socket is full must accept some of the waiting bytes.
    Progress,
    /// The server must be able to read from the client again, because its request has its answer or
    /// its outbox has been read.
    Reading,
    /// The next ping must be sent.
    Ping,
    /// The client must answer the last ping.
    Pong,
}

/// The deadlines of a session, computed from its connection. Their order matters if several have
/// passed, as after a stall of the whole shard: a client whose ping and pong are both due is
/// pinged, not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines([(Due, Tick); 4]);

/// The times that clients have.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The time from one ping to the next.
    pub ping_interval: Duration,
    /// The time to answer a ping, or to accept bytes.
    pub pong_timeout: Duration,
}

/// Whether the server reads from a client at the moment. While it does not, the answer to a ping
/// may be among the unread bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// It reads.
    Reads,
    /// It does not read for the time being.
    Waits,
}

impl Deadlines {
    /// Computes the deadlines of a session at `now`.
    pub fn new(
        connection: &Connection,
        patience: Patience,
        attention: Attention,
        now: Tick,
    ) -> Deadlines {
        let Patience { ping_interval, pong_timeout } = patience;
        let busy = connection.busy.as_ref();
        let stalled =
            busy.filter(|busy| connection.flags.has(Flags::BLOCKED) && !busy.outbox.is_empty());
        let progress = stalled.map(|busy| busy.outbox.moved().after(pong_timeout));
        let unread = busy.and_then(|busy| busy.unread);
        let reading = unread.map(|unread| unread.since.after(UNREAD_TIMEOUT));
        // The time of the first ping is stored only in the slot. When that deadline has passed, the
        // ping is due.
        let pinged = Some(connection.pinged).filter(|pinged| *pinged != Tick::NEVER);
        let ping = pinged.map_or(now, |pinged| pinged.after(ping_interval));
        // Any byte since the ping counts as a pong.
        let unanswered = pinged.filter(|pinged| connection.heard < *pinged);
        let pong = unanswered.map(|pinged| pinged.after(pong_timeout));
        let pong = pong.map(|pong| match attention {
            Attention::Waits if pong <= now => now.after(pong_timeout),
            Attention::Waits | Attention::Reads => pong,
        });
        Deadlines([
            (Due::Progress, progress.unwrap_or(Tick::NEVER)),
            (Due::Reading, reading.unwrap_or(Tick::NEVER)),
            (Due::Ping, ping),
            (Due::Pong, pong.unwrap_or(Tick::NEVER)),
        ])
    }

    /// Returns the first deadline that has passed at `now`.
    pub fn over(&self, now: Tick) -> Option<Due> {
        self.0.iter().find(|(_, until)| *until <= now).map(|(due, _)| *due)
    }

    /// Returns the earliest deadline.
    pub fn earliest(&self) -> Tick {
        self.0.iter().fold(Tick::NEVER, |earliest, (_, until)| earliest.min(*until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Accounts, ReadPause};
    use crate::ids::Generation;
    use crate::kernel::Socket;

    const PATIENCE: Patience =
        Patience { ping_interval: Duration::from_secs(25), pong_timeout: Duration::from_secs(8) };

    fn connection(heard: u32, pinged: Tick) -> Connection {
        let mut connection = Connection::new(Socket::new(3), Generation::new(0), Tick::new(heard));
        connection.pinged = pinged;
        connection
    }

    /// Returns the deadline that has passed at `now` and the earliest one, if the input is read.
    fn read_at(connection: &Connection, now: u32) -> (Option<Due>, u32) {
        let deadlines = Deadlines::new(connection, PATIENCE, Attention::Reads, Tick::new(now));
        (deadlines.over(Tick::new(now)), deadlines.earliest().index())
    }

    #[test]
    fn a_ping_is_due_at_first_and_then_once_in_its_interval() {
        assert_eq!(read_at(&connection(10, Tick::NEVER), 200), (Some(Due::Ping), 200));
        let answered = connection(101, Tick::new(100));
        assert_eq!(read_at(&answered, 100), (None, 350));
        assert_eq!(read_at(&answered, 349), (None, 350));
        assert_eq!(read_at(&answered, 350), (Some(Due::Ping), 350));
    }

    #[test]
    fn a_pong_is_due_until_any_byte_has_come_and_stands_still_while_nobody_reads() {
        let silent = connection(99, Tick::new(100));
        assert_eq!(read_at(&silent, 100), (None, 180));
        assert_eq!(read_at(&silent, 180), (Some(Due::Pong), 180));
        assert_eq!(read_at(&silent, 360), (Some(Due::Ping), 180), "the shard was stopped");
        let now = Tick::new(180);
        let unread = Deadlines::new(&silent, PATIENCE, Attention::Waits, now);
        assert_eq!((unread.over(now), unread.earliest()), (None, Tick::new(260)));
    }

    #[test]
    fn a_socket_without_room_has_a_deadline_for_as_long_as_something_waits() {
        let mut blocked = connection(101, Tick::new(100));
        blocked.flags.set(Flags::BLOCKED);
        assert_eq!(read_at(&blocked, 110), (None, 350));
        blocked.busy().outbox.push_own(b"bytes", &mut Accounts::default());
        blocked.busy().outbox.set_moved(Tick::new(105));
        assert_eq!(read_at(&blocked, 110), (None, 185));
        assert_eq!(read_at(&blocked, 185), (Some(Due::Progress), 185));
        blocked.flags.clear(Flags::BLOCKED);
        assert_eq!(read_at(&blocked, 185), (None, 350));
    }

    #[test]
    fn a_client_that_is_not_read_has_a_deadline_of_its_own() {
        let mut unread = connection(101, Tick::new(100));
        unread.busy().unread = Some(ReadPause { since: Tick::new(0), taken_bytes: 0 });
        let over = UNREAD_TIMEOUT.as_millis() as u32 / 100;
        let deadlines = |now| Deadlines::new(&unread, PATIENCE, Attention::Waits, Tick::new(now));
        assert_eq!(deadlines(over).over(Tick::new(over)), Some(Due::Reading));
        assert_eq!(deadlines(340).earliest(), Tick::new(350), "the next ping comes first");
    }
}
