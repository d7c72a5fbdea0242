//! One shard: its connections, the channels at home in it, and the channels that it delivers.
//!
//! The logic is plain functions on the parts of `Shard`, each of which owns its state. The kernel
//! is behind `Sockets`, other threads are behind `Outbound` and `Inbox`, and the time comes from
//! the kernel. So tests can run whole nodes in one thread with a simulated clock and network. After
//! start-up, `Shard::turn` and `Shard::on_accept` are the only entrances.

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
pub use session::{OutboxCost, Panicked, guarded, is_parsing};

use std::sync::Arc;

use crate::home::{self, Home};
use crate::kernel::{Ready, Socket, Sockets};
use crate::mesh::{Inbox, ShardMail};
use crate::metrics::ShardCounters;
use crate::subnets::Subnet;
use control::Control;
use session::Sessions;

/// The state of one shard, wired from parts. Each part owns its data, and passes messages or return
/// values to the others.
pub struct Shard<S> {
    counters: Arc<ShardCounters>,
    inbox: Inbox<ShardMail>,
    /// The channels at home in this shard.
    home: Home,
    /// Connections, and channels with subscribers on this shard.
    sessions: Sessions<S>,
    /// Requests of the control thread, and self-checks.
    control: Control,
    /// Buffer for events of sockets. Empty between turns.
    events: Vec<Ready>,
}

impl<S: Sockets> Shard<S> {
    /// Creates a shard without connections. Other threads send to it through `inbox`.
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

    /// Whether the node has no room for clients.
    pub fn is_node_full(&self) -> bool {
        self.sessions.is_node_full()
    }

    /// Accepts the socket of a client from `subnet`. Returns false if the shard is full.
    pub fn on_accept(&mut self, socket: Socket, subnet: Subnet) -> bool {
        self.sessions.on_accept(socket, subnet)
    }

    /// Whether no more connections fit.
    pub fn is_full(&self) -> bool {
        self.sessions.is_full()
    }

    /// Number of connections that still fit.
    pub fn places_left(&self) -> usize {
        self.sessions.places_left()
    }

    /// Whether a shard that was full has room for more than a few connections again.
    pub fn has_room_again(&self) -> bool {
        self.sessions.has_room_again()
    }

    /// Number of connections, in any state.
    pub fn connections_count(&self) -> usize {
        self.sessions.count()
    }

    /// Whether the shard is closing its connections and accepts no more.
    pub fn is_draining(&self) -> bool {
        self.sessions.is_draining()
    }

    /// Number of subscribers that have to be told about a gap or to receive missed publications.
    pub fn gap_notices_due_count(&self) -> usize {
        self.sessions.gap_notices_due_count()
    }

    /// Number of requests for histories at home here that wait for a later turn.
    pub fn histories_waiting(&self) -> usize {
        self.home.histories_waiting()
    }

    /// Whether messages wait for room in another thread's inbox. Each turn tries again, and each
    /// tick causes a turn.
    pub fn is_behind(&self) -> bool {
        self.sessions.is_behind()
    }

    /// The kernel of this shard.
    pub fn sockets(&mut self) -> &mut S {
        self.sessions.sockets()
    }

    /// The inbox of this shard.
    pub fn inbox(&self) -> &Inbox<ShardMail> {
        &self.inbox
    }

    /// Audits all tables in one step. Returns the number of mismatches. For tests.
    pub fn audit(&mut self) -> usize {
        let errors = self.sessions.audit(&self.home) + self.home.audit();
        self.sessions.count_audit_errors(errors);
        errors
    }

    /// Recounts the memory of all outboxes. Returns the number of stored values that are wrong, and
    /// the number of leased blocks. For tests.
    pub fn audit_outboxes(&mut self) -> (usize, usize) {
        self.sessions.audit_outboxes()
    }

    /// Returns the cost of each outbox that is not empty. For tests.
    pub fn outbox_costs(&mut self) -> Vec<OutboxCost> {
        self.sessions.outbox_costs()
    }

    /// Handles one message.
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
