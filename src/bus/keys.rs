//! Names of the keys of the bus in Redis. All keys of one stream share a hash tag, so that a script
//! may use them together in a Cluster.

/// Builds the names of keys.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Creates names that begin with `prefix`, which has no braces.
    pub fn new(prefix: &str) -> Keys {
        assert!(!prefix.contains(['{', '}']), "braces in the prefix would form a hash tag");
        Keys { prefix: prefix.to_owned() }
    }

    /// Returns the beginning of all names.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A hash with the settings that all nodes must agree on.
    pub fn config(&self) -> Vec<u8> {
        format!("{}:config", self.prefix).into_bytes()
    }

    /// A stream of the bus.
    pub fn stream(&self, stream: usize) -> Vec<u8> {
        self.tagged(stream, "bus")
    }

    /// A hash with format, server, epoch, number and bytes of a stream, and with the numbers of
    /// fields in the hashes of places.
    pub fn meta(&self, stream: usize) -> Vec<u8> {
        self.tagged(stream, "meta")
    }

    /// A list of points at which a stream may be trimmed.
    pub fn marks(&self, stream: usize) -> Vec<u8> {
        self.tagged(stream, "marks")
    }

    /// The reply to a publisher's last batch in a stream.
    pub fn publisher(&self, stream: usize, publisher: u64) -> Vec<u8> {
        self.tagged(stream, &format!("p:{publisher:016x}"))
    }

    /// A key in the stream's hash slot that only probes write.
    pub fn probe(&self, stream: usize) -> Vec<u8> {
        self.tagged(stream, "probe")
    }

    /// A hash with the places of channels (incarnation and offset) by their names. The field with
    /// the empty name has the generation with which new channels begin.
    pub fn places(&self, stream: usize) -> Vec<u8> {
        self.tagged(stream, "places")
    }

    /// A hash like `places`, for channels without publications since the last generation ended.
    pub fn silent(&self, stream: usize) -> Vec<u8> {
        self.tagged(stream, "silent")
    }

    /// A stream with the durable history of a channel. Its ids are `<incarnation>-<offset>`.
    pub fn history(&self, stream: usize, channel: &str) -> Vec<u8> {
        self.tagged(stream, &format!("h:{channel}"))
    }

    /// The position that the publication with this idempotency key got.
    pub fn idempotency(&self, stream: usize, channel: &str, key: &str) -> Vec<u8> {
        // The length separates channel and key, whatever they contain.
        self.tagged(stream, &format!("i:{}:{channel}:{key}", channel.len()))
    }

    /// The lease of an ingested stream. The whole name of that stream is the tag, so both are on
    /// the same node of a Cluster.
    pub fn lease(&self, ingested: &str) -> Vec<u8> {
        format!("{}:lease:{{{ingested}}}", self.prefix).into_bytes()
    }

    /// A list of points at which the stream of events may be trimmed. It is on the same node of a
    /// Cluster.
    pub fn event_marks(&self, stream: &str) -> Vec<u8> {
        let tag = stream.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
        if tag.is_some_and(|(tag, _)| !tag.is_empty()) {
            return self.other(&format!("marks:{stream}"));
        }
        self.other(&format!("marks:{{{stream}}}"))
    }

    /// A name that belongs to no stream.
    pub fn other(&self, name: &str) -> Vec<u8> {
        format!("{}:{name}", self.prefix).into_bytes()
    }

    fn tagged(&self, stream: usize, name: &str) -> Vec<u8> {
        format!("{}:{{{stream}}}:{name}", self.prefix).into_bytes()
    }
}
