//! One core: its connections, the channels it orders, the channels it delivers.
//!
//! All logic is plain functions on the parts of `Shard`, each of which owns its state alone. The
//! kernel is behind `Sockets`, other threads are behind `Outbound` and `Inbox`, and time is
//! the kernel's, so whole nodes run in one thread under a simulated clock and network.
//! `Shard::turn` is the only entrance after start-up besides `Shard::on_accept`.

mod control;
mod delivery;
mod identity;
mod options;
mod parts;
mod session;
mod turn;

pub use delivery::OutboxLeases;
pub use identity::Identity;
pub use options::{Options, Pools};
pub use parts::Parts;
pub use session::is_parsing;

use std::sync::Arc;

use crate::home::{self, Home};
use crate::kernel::{Ready, Socket, Sockets};
use crate::mesh::{Inbox, ShardMail};
use crate::metrics::ShardCounters;
use crate::subnets::Subnet;
use control::Control;
use session::Sessions;

/// One core's state: its wiring. Each part owns what it needs, and sends the others messages or
/// returns what they have to know.
pub struct Shard<S> {
    counters: Arc<ShardCounters>,
    inbox: Inbox<ShardMail>,
    /// Channels at home here.
    home: Home,
    /// Connections, and channels with subscribers.
    sessions: Sessions<S>,
    /// Requests of control, and self-checks.
    control: Control,
    /// Room for the news of sockets; empty between turns.
    events: Vec<Ready>,
}

impl<S: Sockets> Shard<S> {
    /// A shard without connections. Other threads send it what comes out of `inbox`.
    pub fn new(inbox: Inbox<ShardMail>, parts: Parts<S>) -> Shard<S> {
        let (options, pools) = (&parts.options, &parts.pools);
        let home = Home::new(home::Parts {
            settings: Arc::clone(&options.settings),
            history_bytes_max: options.history_bytes_max,
            channels: pools.channels.clone(),
            idempotency: pools.idempotency.clone(),
            counters: Arc::clone(&parts.counters),
            seed: parts.seed,
        });
        Shard {
            counters: Arc::clone(&parts.counters),
            inbox,
            home,
            sessions: Sessions::new(parts),
            control: Control::default(),
            events: Vec::new(),
        }
    }

    /// Takes an accepted socket of a client from `subnet`. Returns whether it was taken: not if the
    /// shard is full.
    pub fn on_accept(&mut self, socket: Socket, subnet: Subnet) -> bool {
        self.sessions.on_accept(socket, subnet)
    }

    /// Whether no more connections fit.
    pub fn is_full(&self) -> bool {
        self.sessions.is_full()
    }

    /// How many more connections fit.
    pub fn places_left(&self) -> usize {
        self.sessions.places_left()
    }

    /// Whether a shard that was full has room for more than a few.
    pub fn has_room_again(&self) -> bool {
        self.sessions.has_room_again()
    }

    /// Connections, in whatever state.
    pub fn connections_count(&self) -> usize {
        self.sessions.count()
    }

    /// Whether the shard closes its connections and takes no more.
    pub fn is_draining(&self) -> bool {
        self.sessions.is_draining()
    }

    /// Subscribers that are still to be told of a gap, or to be given what they missed.
    pub fn gap_notices_due_count(&self) -> usize {
        self.sessions.gap_notices_due_count()
    }

    /// Requests for histories at home here that wait for a later turn.
    pub fn histories_waiting(&self) -> usize {
        self.home.histories_waiting()
    }

    /// Whether messages wait for room in another thread's inbox. Each turn tries again, and each
    /// tick brings a turn.
    pub fn is_behind(&self) -> bool {
        self.sessions.is_behind()
    }

    /// The shard's kernel.
    pub fn sockets(&mut self) -> &mut S {
        self.sessions.sockets()
    }

    /// The shard's inbox.
    pub fn inbox(&self) -> &Inbox<ShardMail> {
        &self.inbox
    }

    /// Audits everything at once. Returns how many mismatches there are. For tests.
    pub fn audit(&mut self) -> usize {
        let errors = self.sessions.audit(&self.home) + self.home.audit();
        self.sessions.count_audit_errors(errors);
        errors
    }

    /// Counts the memory of all outboxes anew. Returns how many numbers that are kept of it are
    /// wrong, and how many blocks are leased for it. For tests.
    pub fn audit_outboxes(&mut self) -> (usize, usize) {
        self.sessions.audit_outboxes()
    }

    /// What waits in each outbox that is not empty, by its cost in bytes. For tests.
    pub fn outbox_costs(&mut self) -> Vec<usize> {
        self.sessions.outbox_costs()
    }

    /// Carries out one message.
    fn on_mail(&mut self, mail: ShardMail) {
        match mail {
            ShardMail::Home(message) => self.home.on_message(message, self.sessions.post()),
            ShardMail::Control { ticket, request } => {
                self.control.on_request(&mut self.sessions, ticket, request);
            }
            ShardMail::Shard(message) => self.sessions.on_message(message),
        }
    }
}
