//! Messages as codecs write them: payloads, each text or binary. The [`MessageSink`] turns them
//! into the bytes of a connection.

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
}

/// Takes the messages that a codec writes, in their order.
pub trait MessageSink {
    /// Writes a message whose payload exists already.
    fn write(&mut self, kind: MessageKind, payload: &[u8]);

    /// Writes a message whose payload `append` makes, at the end of the buffer that it is given.
    ///
    /// `bytes_expected` is a guess of the payload's length. The sink leaves room for a frame header
    /// whose length depends on it, so after a wrong guess it may have to move the payload.
    fn write_with(
        &mut self,
        kind: MessageKind,
        bytes_expected: usize,
        append: impl FnOnce(&mut Vec<u8>),
    );
}

/// Messages that have been written, for tests of codecs.
#[cfg(test)]
pub(super) type Written = Vec<(MessageKind, Vec<u8>)>;

#[cfg(test)]
impl MessageSink for Written {
    fn write(&mut self, kind: MessageKind, payload: &[u8]) {
        self.push((kind, payload.to_vec()));
    }

    fn write_with(
        &mut self,
        kind: MessageKind,
        _bytes_expected: usize,
        append: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut payload = Vec::new();
        append(&mut payload);
        self.push((kind, payload));
    }
}
