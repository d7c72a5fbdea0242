//! Checks of the memory that a shard uses for its clients.

use corecast::kernel::ConnectionKey;
use corecast::limits::{OUTBOX_UNBLOCKED_FACTOR, RECOVERY_BYTES_MAX};
use corecast::metrics::ShardCounters;
use corecast::shard::Shard;

use super::setup::Setup;
use super::sockets::SimSockets;

/// Bytes of other messages to a client: a pong, a close frame, a notice.
const ANSWERS_BYTES: usize = 1_000;

/// The memory of one shard.
#[derive(Default)]
pub struct Memory {
    /// The connections whose sockets had no room after the last turn, with the fewest bytes that
    /// have waited for each since its socket was last tried.
    blocked: Vec<(ConnectionKey, usize)>,
}

impl Memory {
    /// # Panics
    /// If a shard uses more memory for its connections than its settings allow.
    pub fn check(
        &mut self,
        shard: &mut Shard<SimSockets>,
        counters: &ShardCounters,
        setup: &Setup,
    ) {
        self.check_outboxes(shard, setup);
        let inbound_bytes = counters.inbound_bytes.value() as usize;
        let inbound_bytes_max = setup.options.inbound_bytes_max;
        assert!(inbound_bytes <= inbound_bytes_max, "{inbound_bytes} B of unfinished input");
        let history_bytes = counters.history_bytes.value() as usize;
        let history_bytes_max = setup.options.history_bytes_max;
        assert!(history_bytes <= history_bytes_max, "{history_bytes} B of history");
    }

    /// An outbox may have the bytes of the setting, and one answer to a request of the client. A
    /// socket that takes bytes may leave a longer burst when it has no more room. Until it is tried
    /// again, nothing is added to that.
    fn check_outboxes(&mut self, shard: &mut Shard<SimSockets>, setup: &Setup) {
        // JSON of maximum size.
        let answer = (3 * setup.options.history_bytes_max).min(RECOVERY_BYTES_MAX) + ANSWERS_BYTES;
        let bytes_max = setup.options.client().outbox_bytes_max;
        let tried = shard.sockets().take_tried();
        let before = std::mem::take(&mut self.blocked);
        for cost in shard.outbox_costs() {
            let blocked = before.iter().find(|(key, _)| *key == cost.key);
            let left = blocked.filter(|_| !tried.contains(&cost.socket)).map(|(_, bytes)| *bytes);
            let most = match left {
                Some(left) => (bytes_max + answer).max(left + ANSWERS_BYTES),
                None => bytes_max * OUTBOX_UNBLOCKED_FACTOR + answer,
            };
            let bytes = cost.bytes;
            assert!(bytes <= most, "{bytes} B wait for one client, and {most} may");
            if cost.is_blocked {
                self.blocked.push((cost.key, left.map_or(bytes, |left| left.min(bytes))));
            }
        }
    }
}
