//! The names of what the bus keeps in Redis. All of one stream share a hash tag, so that a script
//! may touch them together in a Cluster.

/// Names keys.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Names that begin with `prefix`, which has no braces.
    pub fn new(prefix: &str) -> Keys {
        assert!(!prefix.contains(['{', '}']), "a prefix with braces would be a hash tag");
        Keys { prefix: prefix.to_owned() }
    }

    /// What all names begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A hash: what all nodes must agree on.
    pub fn config(&self) -> Vec<u8> {
        format!("{}:config", self.prefix).into_bytes()
    }

    /// A stream of the bus.
    pub fn stream(&self, stream: usize) -> Vec<u8> {
        self.tagged(stream, "bus")
    }

    /// A hash: format, server, epoch, number and bytes of a stream, and how many fields the hashes
    /// of places have.
    pub fn meta(&self, stream: usize) -> Vec<u8> {
        self.tagged(stream, "meta")
    }

    /// A list: where a stream may be cut.
    pub fn marks(&self, stream: usize) -> Vec<u8> {
        self.tagged(stream, "marks")
    }

    /// A publisher's last batch in a stream.
    pub fn publisher(&self, stream: usize, publisher: u64) -> Vec<u8> {
        self.tagged(stream, &format!("p:{publisher:016x}"))
    }

    /// A key that only a probe writes, beside the stream.
    pub fn probe(&self, stream: usize) -> Vec<u8> {
        self.tagged(stream, "probe")
    }

    /// A hash: where channels stand, by their names. Its field without a name is the generation
    /// with which new channels begin.
    pub fn places(&self, stream: usize) -> Vec<u8> {
        self.tagged(stream, "places")
    }

    /// The same for channels that nobody has published to since the last generation ended.
    pub fn silent(&self, stream: usize) -> Vec<u8> {
        self.tagged(stream, "silent")
    }

    /// A stream: the history of a channel, where it has one of its own. Ids are
    /// `<incarnation>-<offset>`.
    pub fn history(&self, stream: usize, channel: &str) -> Vec<u8> {
        self.tagged(stream, &format!("h:{channel}"))
    }

    /// The position that a publication with this key got.
    pub fn idempotency(&self, stream: usize, channel: &str, key: &str) -> Vec<u8> {
        // The length keeps channel and key apart, whatever they contain.
        self.tagged(stream, &format!("i:{}:{channel}:{key}", channel.len()))
    }

    /// Who reads an ingested stream. In a Cluster it is where that is: the stream's whole name is
    /// the tag.
    pub fn lease(&self, ingested: &str) -> Vec<u8> {
        format!("{}:lease:{{{ingested}}}", self.prefix).into_bytes()
    }

    /// A list: where the stream of events may be cut. In a Cluster it is where that is.
    pub fn event_marks(&self, stream: &str) -> Vec<u8> {
        let tag = stream.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
        if tag.is_some_and(|(tag, _)| !tag.is_empty()) {
            return self.other(&format!("marks:{stream}"));
        }
        self.other(&format!("marks:{{{stream}}}"))
    }

    /// A name that is no stream's.
    pub fn other(&self, name: &str) -> Vec<u8> {
        format!("{}:{name}", self.prefix).into_bytes()
    }

    fn tagged(&self, stream: usize, name: &str) -> Vec<u8> {
        format!("{}:{{{stream}}}:{name}", self.prefix).into_bytes()
    }
}
