//! Small values that every layer uses: identities, moments and positions.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A point in time: nanoseconds since the start of the process, on the monotonic clock. All threads
/// use the same start, so their moments can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// Creates the moment `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Moment {
        Moment(nanos)
    }

    /// Returns the nanoseconds since the start.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Returns the time from `earlier` until this moment; zero if `earlier` is not earlier.
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns the moment `duration` later.
    pub const fn after(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(duration.as_nanos() as u64))
    }

    /// Returns the tick that contains this moment.
    pub const fn tick(self) -> Tick {
        Tick((self.0 / Tick::NANOS) as u32)
    }
}

/// A moment with a resolution of a tenth of a second. Every connection stores several of them, and
/// four bytes are enough for 13 years of uptime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u32);

impl Tick {
    /// Length of a tick in nanoseconds.
    pub const NANOS: u64 = 100_000_000;
    /// Length of a tick.
    pub const PERIOD: Duration = Duration::from_nanos(Self::NANOS);
    /// A tick that is never reached, for absent deadlines.
    pub const NEVER: Tick = Tick(u32::MAX);

    /// Creates the tick with number `index`.
    pub const fn new(index: u32) -> Tick {
        Tick(index)
    }

    /// Returns the number of this tick since the start.
    pub const fn index(self) -> u32 {
        self.0
    }

    /// Returns the tick `duration` later. It is rounded up, so that a deadline is never early.
    pub const fn after(self, duration: Duration) -> Tick {
        let ticks = (duration.as_nanos() as u64).div_ceil(Tick::NANOS);
        Tick(self.0.saturating_add(if ticks > u32::MAX as u64 { u32::MAX } else { ticks as u32 }))
    }

    /// Returns the number of ticks from `earlier` until this one; zero if `earlier` is not earlier.
    pub const fn since(self, earlier: Tick) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The number of a shard in its node, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(u16);

impl ShardId {
    /// Maximum number of shards of a node. A client id has 12 bits for the shard.
    pub const COUNT_MAX: usize = 4096;

    /// Creates the id of the shard with number `index`.
    pub const fn new(index: usize) -> ShardId {
        assert!(index < Self::COUNT_MAX, "a shard's number must fit into a client id");
        ShardId(index as u16)
    }

    /// Returns the number of the shard, from 0.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The number of a connection's row in its shard's table, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u32);

impl Slot {
    /// Maximum number of connections of one shard: 24 bits, so that slot and generation fit into
    /// the `user_data` of a ring together with the kind of an event.
    pub const COUNT_MAX: usize = 1 << 24;

    /// Creates the slot with number `index`.
    pub const fn new(index: usize) -> Slot {
        assert!(index < Self::COUNT_MAX, "a slot's number must fit into 24 bits");
        Slot(index as u32)
    }

    /// Returns the number of the slot, from 0.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The place of a channel in the table of a shard that has subscribers of it. When the last of them
/// has left, another channel may get the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalId(u32);

impl LocalId {
    /// Creates the place with number `index`.
    pub const fn new(index: usize) -> LocalId {
        assert!(index <= u32::MAX as usize, "a place's number must fit into 32 bits");
        LocalId(index as u32)
    }

    /// Returns the number of the place, from 0.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The place of a channel in the table of its home. When the channel is removed, another one may
/// get the place. Shards with subscribers of the channel have a [`LocalId`] instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HomeId(u32);

impl HomeId {
    /// Marks the end of a list. No channel has this place.
    pub const NONE: HomeId = HomeId(u32::MAX);

    /// Creates the place with number `index`.
    pub const fn new(index: u32) -> HomeId {
        HomeId(index)
    }

    /// Returns the number of the place, from 0.
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// The number of times that a slot has been used, modulo 2^32. It distinguishes a connection from
/// earlier ones in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(u32);

impl Generation {
    /// Creates the generation with number `value`.
    pub const fn new(value: u32) -> Generation {
        Generation(value)
    }

    /// Returns the number of the generation.
    pub const fn value(self) -> u32 {
        self.0
    }

    /// Returns the generation of the next connection in the slot.
    pub const fn next(self) -> Generation {
        Generation(self.0.wrapping_add(1))
    }
}

/// A connection of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// The shard that owns it.
    pub shard: ShardId,
    /// Its slot there.
    pub slot: Slot,
    /// Its generation in that slot.
    pub generation: Generation,
}

/// The public id of a connection: a UUID (RFC 9562, version 8). It contains node, shard, slot and
/// generation, so no table of ids is needed. It also contains 38 bits of a keyed hash of them, so
/// no id can be guessed from another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(u128);

impl ClientId {
    /// Creates the id with the 122 free bits of `raw`. Its version and variant bits are set.
    pub const fn from_raw(raw: u128) -> ClientId {
        let cleared = raw & !(0xF << 76) & !(0x3 << 62);
        ClientId(cleared | (0x8 << 76) | (0x2 << 62))
    }

    /// Returns all 128 bits.
    pub const fn raw(self) -> u128 {
        self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            (hex >> 96) as u32,
            (hex >> 80) as u16,
            (hex >> 64) as u16,
            (hex >> 48) as u16,
            hex & 0xFFFF_FFFF_FFFF
        )
    }
}

impl FromStr for ClientId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<ClientId, ParseIdError> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return Err(ParseIdError);
        }
        let mut raw = 0u128;
        for (at, &byte) in bytes.iter().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                if byte != b'-' {
                    return Err(ParseIdError);
                }
                continue;
            }
            let digit = (byte as char).to_digit(16).ok_or(ParseIdError)?;
            raw = raw << 4 | u128::from(digit);
        }
        if ClientId::from_raw(raw).raw() == raw { Ok(ClientId(raw)) } else { Err(ParseIdError) }
    }
}

/// The error of a text that is not a valid id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a client id: 36 characters as in 01234567-89ab-8def-8123-456789abcdef are expected")]
pub struct ParseIdError;

/// A period in which the offsets of a channel are contiguous. A new epoch begins whenever that
/// can't be guaranteed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// Creates the epoch with this value.
    pub const fn new(value: u64) -> Epoch {
        Epoch(value)
    }

    /// Returns the value of the epoch.
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl FromStr for Epoch {
    type Err = ParseIdError;

    /// Accepts only the text that `Display` writes. Other spellings of the number are errors, and
    /// so is "_", which SDKs send to match no epoch.
    fn from_str(text: &str) -> Result<Epoch, ParseIdError> {
        let value = u64::from_str_radix(text, 16).map_err(|_| ParseIdError)?;
        let epoch = Epoch(value);
        if epoch.to_string() == text { Ok(epoch) } else { Err(ParseIdError) }
    }
}

/// The position of a publication in its channel. Offsets are contiguous within an epoch and begin
/// at 1, so offset 0 is the position before the first publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The epoch to which `offset` belongs.
    pub epoch: Epoch,
    /// Number of the publication within the epoch.
    pub offset: u64,
}

/// The position from which a client wants to continue. The text of its epoch may be missing, which
/// matches every epoch, or invalid, which matches none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// The epoch that the client sent.
    pub epoch: SinceEpoch,
    /// The last offset that the client has received.
    pub offset: u64,
}

/// The epoch part of [`Since`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinceEpoch {
    /// The client sent no epoch, so every epoch matches.
    Any,
    /// The client sent this epoch.
    Exactly(Epoch),
    /// The client sent a text that is not an epoch, so no epoch matches.
    Unknown,
}

impl SinceEpoch {
    /// Parses the epoch that a client sent.
    pub fn from_text(text: &str) -> SinceEpoch {
        if text.is_empty() {
            return SinceEpoch::Any;
        }
        text.parse().map_or(SinceEpoch::Unknown, SinceEpoch::Exactly)
    }

    /// Whether a client can continue in a channel with this `epoch`.
    pub fn matches(self, epoch: Epoch) -> bool {
        match self {
            SinceEpoch::Any => true,
            SinceEpoch::Exactly(named) => named == epoch,
            SinceEpoch::Unknown => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_survives_its_text() {
        let id = ClientId::from_raw(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let text = id.to_string();
        assert_eq!(text.as_bytes()[14], b'8', "version 8");
        assert_eq!(text.parse(), Ok(id));
        assert_eq!("01234567-89ab-1def-8123-456789abcdef".parse::<ClientId>(), Err(ParseIdError));
        assert_eq!(text[1..].parse::<ClientId>(), Err(ParseIdError));
    }

    #[test]
    fn an_epoch_has_one_spelling() {
        let epoch = Epoch::new(0xbeef);
        assert_eq!(epoch.to_string().parse(), Ok(epoch));
        for other in ["_", "", "0beef", "BEEF", "+beef"] {
            assert_eq!(other.parse::<Epoch>(), Err(ParseIdError), "{other:?}");
        }
        assert!(!SinceEpoch::from_text("_").matches(epoch));
        assert!(SinceEpoch::from_text("").matches(epoch));
    }

    #[test]
    fn a_deadline_is_never_early() {
        let tick = Moment::from_nanos(999_999_999).tick();
        assert_eq!(tick.index(), 9);
        assert_eq!(tick.after(Duration::from_millis(101)).index(), 11);
    }
}
