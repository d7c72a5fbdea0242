//! The reasons why a connection failed or ended: a closed set, counted by kind.

use serde::Serialize;
use std::collections::BTreeMap;
use std::io;

/// The kind of failure of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing listens on the port.
    Refused,
    /// The peer reset the connection.
    Reset,
    /// The handshake did not complete in time.
    Timeout,
    /// This process has no descriptor left.
    Descriptors,
    /// This host has no address or port left.
    Address,
    /// The server answered with a status other than 101.
    Status,
    /// The status was 101, but the rest of the answer is wrong.
    Upgrade,
    /// The server refused to connect or subscribe inside the WebSocket.
    Subscribe,
    /// The server sent bytes that break the protocol.
    Protocol,
    /// The server closed the connection.
    Closed,
    /// The server accepted no more bytes.
    Stalled,
    /// Another system error.
    Other,
}

/// One failure with its details.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(fault: Fault, text: impl Into<String>) -> Self {
        Self { fault, text: text.into() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let fault = match error.kind() {
            io::ErrorKind::ConnectionRefused => Fault::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Fault::Reset,
            io::ErrorKind::TimedOut => Fault::Timeout,
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => Fault::Address,
            io::ErrorKind::WouldBlock => Fault::Stalled,
            io::ErrorKind::UnexpectedEof => Fault::Closed,
            _ => match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE) => Fault::Descriptors,
                _ => Fault::Other,
            },
        };
        Self { fault, text: error.to_string() }
    }
}

impl Fault {
    /// Returns the name used in reports.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Descriptors => "descriptors",
            Self::Address => "address",
            Self::Status => "status",
            Self::Upgrade => "upgrade",
            Self::Subscribe => "subscribe",
            Self::Protocol => "protocol",
            Self::Closed => "closed",
            Self::Stalled => "stalled",
            Self::Other => "other",
        }
    }
}

/// Failures of many connections: the number of each kind, and the first text of each.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Failures {
    kinds: BTreeMap<&'static str, Kind>,
}

#[derive(Clone, Debug, Serialize)]
struct Kind {
    count: u64,
    first: String,
}

impl Failures {
    pub(crate) fn add(&mut self, failure: Failure) {
        let kind = self
            .kinds
            .entry(failure.fault.label())
            .or_insert_with(|| Kind { count: 0, first: failure.text });
        kind.count += 1;
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (label, kind) in other.kinds {
            match self.kinds.get_mut(label) {
                Some(mine) => mine.count += kind.count,
                None => drop(self.kinds.insert(label, kind)),
            }
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.kinds.values().map(|kind| kind.count).sum()
    }

    /// Formats the failures as one line: "3 refused (Connection refused), 1 timeout (…)".
    pub(crate) fn text(&self) -> String {
        let kinds = self.kinds.iter();
        let texts = kinds.map(|(label, kind)| format!("{} {label} ({})", kind.count, kind.first));
        texts.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_kind_with_the_first_text() {
        let mut all = Failures::default();
        all.add(Failure::new(Fault::Status, "HTTP/1.1 503 busy"));
        let mut more = Failures::default();
        more.add(Failure::new(Fault::Status, "HTTP/1.1 404 gone"));
        more.add(io::Error::from(io::ErrorKind::ConnectionRefused).into());
        more.add(io::Error::from_raw_os_error(libc::EMFILE).into());
        all.merge(more);
        assert_eq!(all.count(), 4);
        assert!(all.text().contains("2 status (HTTP/1.1 503 busy)"), "{}", all.text());
        assert!(all.text().contains("1 refused"), "{}", all.text());
        assert!(all.text().contains("1 descriptors"), "{}", all.text());
    }
}
