//! The mark in every publication: its sequence number and its time. Receivers use it to find
//! losses, repeats, disorder and latency.

use memchr::memmem;

/// Minimum payload that holds a mark with the largest numbers, in bytes.
pub(crate) const PAYLOAD_BYTES_MIN: usize = 56;

const SEQUENCE_KEY: &[u8] = b"{\"seq\":";
const SENT_KEY: &[u8] = b",\"ns\":";

/// The mark of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Counts from 1, without gaps.
    pub(crate) sequence: u32,
    /// CLOCK_MONOTONIC in nanoseconds at the time when the publication was due. Only meaningful on
    /// the host that sent it.
    pub(crate) sent_ns: u64,
}

impl Mark {
    /// Returns a JSON object with the mark, padded to exactly `bytes`.
    ///
    /// `bytes` must be at least [`PAYLOAD_BYTES_MIN`]; below it the object may be longer.
    pub(crate) fn payload(self, bytes: usize) -> String {
        let Self { sequence, sent_ns } = self;
        let mut text = format!("{{\"seq\":{sequence},\"ns\":{sent_ns},\"pad\":\"");
        let pad = bytes.saturating_sub(text.len() + 2);
        text.extend(std::iter::repeat_n('x', pad));
        text.push_str("\"}");
        text
    }
}

/// Finds marks in messages.
pub(crate) struct Finder {
    key: memmem::Finder<'static>,
}

impl Finder {
    pub(crate) fn new() -> Self {
        Self { key: memmem::Finder::new(SEQUENCE_KEY) }
    }

    /// Appends every mark in `message` to `marks`, in order. A server may join several publications
    /// in one message and wrap each in an envelope. The search finds the marks in any case.
    pub(crate) fn find(&self, message: &[u8], marks: &mut Vec<Mark>) {
        let mut rest = message;
        while let Some(at) = self.key.find(rest) {
            rest = &rest[at + SEQUENCE_KEY.len()..];
            let Some((sequence, after)) = number(rest) else { continue };
            let Some((sent_ns, after)) = after.strip_prefix(SENT_KEY).and_then(number) else {
                continue;
            };
            if let Ok(sequence) = u32::try_from(sequence) {
                marks.push(Mark { sequence, sent_ns });
            }
            rest = after;
        }
    }
}

/// Parses the decimal number at the start of `bytes`. Returns it and the rest.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let value = std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()?;
    Some((value, &bytes[digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(message: &str) -> Vec<(u32, u64)> {
        let mut marks = Vec::new();
        Finder::new().find(message.as_bytes(), &mut marks);
        marks.iter().map(|mark| (mark.sequence, mark.sent_ns)).collect()
    }

    #[test]
    fn a_payload_has_the_length_asked_for_and_gives_its_mark_back() {
        for mark in
            [Mark { sequence: 1, sent_ns: 0 }, Mark { sequence: u32::MAX, sent_ns: u64::MAX }]
        {
            for bytes in [PAYLOAD_BYTES_MIN, 64, 128, 5000] {
                let payload = mark.payload(bytes);
                assert_eq!(payload.len(), bytes);
                assert!(serde_json::from_str::<serde_json::Value>(&payload).is_ok());
                assert_eq!(found(&payload), [(mark.sequence, mark.sent_ns)]);
            }
        }
    }

    #[test]
    fn marks_are_found_in_envelopes_and_in_joined_messages() {
        let one = Mark { sequence: 7, sent_ns: 70 }.payload(64);
        let two = Mark { sequence: 8, sent_ns: 80 }.payload(64);
        let push =
            |data: &str| format!("{{\"push\":{{\"channel\":\"c\",\"pub\":{{\"data\":{data}}}}}}}");
        let message = format!("{}\n{}", push(&one), push(&two));
        assert_eq!(found(&message), [(7, 70), (8, 80)]);
    }

    #[test]
    fn what_only_looks_like_a_mark_is_none() {
        for message in
            ["", "{}", "{\"seq\":", "{\"seq\":1}", "{\"seq\":x,\"ns\":1}", "{\"seq\":1,\"ns\":"]
        {
            assert_eq!(found(message), [], "{message}");
        }
        assert_eq!(found("{\"seq\":{\"seq\":2,\"ns\":3}"), [(2, 3)]);
    }
}
