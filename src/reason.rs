//! Why things end: one table gives each reason its code, text, metric label and whether a client
//! should come back. Corecast's own codes are Centrifugo's numbers; protocol errors are RFC 6455's.

use crate::limits::CLOSE_REASON_BYTES_MAX;

/// One row of a table of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The code on the wire; 0 where nothing is sent.
    pub code: u16,
    /// The text on the wire. Never empty where a code is sent, and never valid JSON: SDKs read
    /// an empty or JSON reason differently.
    pub text: &'static str,
    /// Value of the metric's `reason` label.
    pub label: &'static str,
    /// Whether a client that follows Centrifugo's rules connects again.
    pub reconnect: bool,
}

macro_rules! reasons {
    ($(#[$enum_meta:meta])* $name:ident { $($(#[$meta:meta])*
        $variant:ident = $code:literal, $text:literal, $label:literal, $reconnect:literal;)* }) => {
        $(#[$enum_meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name { $($(#[$meta])* $variant,)* }

        impl $name {
            /// Every reason, in the order of the table.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// The reason's row.
            pub const fn row(self) -> Row {
                match self {
                    $($name::$variant => Row {
                        code: $code, text: $text, label: $label, reconnect: $reconnect,
                    },)*
                }
            }
        }
    };
}

reasons! {
    /// Why a connection closes.
    CloseReason {
        /// The client closed, with a close frame.
        ClientClosed = 1000, "bye", "client_closed", true;
        /// The client's stream ended or was reset; nothing can be sent.
        PeerGone = 0, "peer gone", "peer_gone", true;
        /// A frame broke RFC 6455.
        ProtocolError = 1002, "protocol error", "protocol_error", false;
        /// A text message is not UTF-8. RFC 6455 §8.1.
        InvalidUtf8 = 1007, "invalid utf-8", "invalid_utf8", false;
        /// A frame of a kind that the endpoint has no use for. RFC 6455 §7.4.1.
        UnsupportedData = 1003, "unsupported data", "unsupported_data", false;
        /// A message is longer than `message_bytes_max`, or in more than `fragments_max` pieces.
        MessageTooBig = 1009, "message too big", "message_too_big", false;
        /// The shard has no room left for unfinished messages.
        InboundFull = 1013, "try again later", "inbound_full", true;
        /// The server stops or drains.
        Shutdown = 3001, "shutdown", "shutdown", true;
        /// Something failed on our side while this connection's bytes were handled.
        InternalError = 3004, "internal server error", "internal_error", true;
        /// The client reads too slowly: its outbox is full.
        Slow = 3008, "slow", "slow", true;
        /// The node has no memory left for outboxes, and this one was the fullest of its shard.
        OutboxesFull = 3008, "slow", "outboxes_full", true;
        /// Publications were missed, and the protocol has no other word for it.
        InsufficientState = 3010, "insufficient state", "insufficient_state", true;
        /// The application asked the client to come back.
        ForceReconnect = 3011, "force reconnect", "force_reconnect", true;
        /// No byte came within the pong timeout.
        NoPong = 3012, "no pong", "no_pong", true;
        /// More frames, pings or commands than allowed.
        TooManyRequests = 3013, "too many requests", "too_many_requests", true;
        /// What the client sent can't be understood.
        BadRequest = 3501, "bad request", "bad_request", false;
        /// The client never sent `connect`.
        Stale = 3502, "stale", "stale", false;
        /// The application cut the connection.
        ForceDisconnect = 3503, "force disconnect", "force_disconnect", false;
        /// More channels than a connection may have.
        ChannelLimit = 3505, "channel limit", "channel_limit", false;
        /// The client asked for a protocol form that this server does not speak.
        InappropriateProtocol = 3506, "inappropriate protocol", "inappropriate_protocol", false;
        /// The client may not do what it asked for.
        PermissionDenied = 3507, "permission denied", "permission_denied", false;
        /// The client asked for something that is switched off.
        NotAvailable = 3508, "not available", "not_available", false;
        /// The request head did not arrive in time.
        HandshakeTimeout = 0, "handshake timeout", "handshake_timeout", true;
        /// The request head was refused with an HTTP status, or was answered as plain HTTP.
        Refused = 0, "refused", "refused", false;
        /// The application gave a code and a text of its own.
        Custom = 0, "custom", "custom", true;
    }
}

reasons! {
    /// Why a request fails. The connection stays. `reconnect` says whether the error is temporary.
    ClientError {
        /// Something failed on our side.
        Internal = 100, "internal server error", "internal", true;
        /// Redis can't be reached or refuses: nothing was published.
        BusUnavailable = 100, "bus unavailable: nothing was published; try again",
            "bus_unavailable", true;
        /// Redis can't be reached, so it is not known where a channel stands.
        BusAway = 100, "bus unavailable: Redis can't be reached; try again", "bus_away", true;
        /// Redis did not confirm in time: it may have been published, once.
        ResultUnknown = 100,
            "result unknown: it may have been published; a repeat is safe with an idempotency_key",
            "result_unknown", true;
        /// The request needs credentials.
        Unauthorized = 101, "unauthorized", "unauthorized", false;
        /// The channel's namespace does not exist.
        UnknownChannel = 102, "unknown channel", "unknown_channel", false;
        /// The namespace does not allow it.
        PermissionDenied = 103, "permission denied", "permission_denied", false;
        /// There is no such method.
        MethodNotFound = 104, "method not found", "method_not_found", false;
        /// The connection is subscribed already.
        AlreadySubscribed = 105, "already subscribed", "already_subscribed", false;
        /// A limit on the number of something is reached.
        LimitExceeded = 106, "limit exceeded", "limit_exceeded", false;
        /// A publication is so long that no recovery could return it. See
        /// [`RECOVERY_BYTES_MAX`](crate::limits::RECOVERY_BYTES_MAX).
        PublicationTooLong = 106,
            "limit exceeded: channels with history take publications of up to 786432 bytes as JSON",
            "publication_too_long", false;
        /// A value is missing, malformed or too long.
        BadRequest = 107, "bad request", "bad_request", false;
        /// The feature is off for this channel, or not part of this server.
        NotAvailable = 108, "not available", "not_available", false;
        /// Too many requests at once; come back later.
        TooManyRequests = 111, "too many requests", "too_many_requests", true;
        /// The position asked for can't be continued.
        UnrecoverablePosition = 112, "unrecoverable position", "unrecoverable_position", false;
    }
}

/// Why a subscription ends while its connection stays. From 2500 on clients subscribe again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsubscribeReason {
    /// The application ended it.
    Server,
    /// Publications were missed; the client recovers from its position.
    InsufficientState,
}

impl UnsubscribeReason {
    /// The code and text on the wire. Source: Centrifugo's unsubscribe codes.
    pub const fn code_and_text(self) -> (u16, &'static str) {
        match self {
            UnsubscribeReason::Server => (2000, "server unsubscribe"),
            UnsubscribeReason::InsufficientState => (2500, "insufficient state"),
        }
    }
}

reasons! {
    /// Why messages were not delivered. Every one is counted, none is silent to its receiver.
    DropReason {
        /// A slow client's namespace says `skip`, and its outbox was full.
        SlowSkip = 0, "slow skip", "slow_skip", false;
        /// A thread's inbox and the sender's spill for it were full: a gap notice went instead.
        SpillFull = 0, "spill full", "spill_full", false;
    }
}

reasons! {
    /// Why something that the history kept was dropped before its time. Every one is counted.
    Eviction {
        /// A publication: the histories have used up their bytes.
        Bytes = 0, "bytes", "bytes", false;
        /// The position of a channel that nobody used: the histories have used up their bytes.
        Position = 0, "position", "position", false;
        /// A publication: it does not lead to where the channel stands now, or that is not known.
        Adrift = 0, "adrift", "adrift", false;
    }
}

const _: () = {
    let mut at = 0;
    while at < CloseReason::ALL.len() {
        let row = CloseReason::ALL[at].row();
        assert!(row.text.len() <= CLOSE_REASON_BYTES_MAX, "a reason must fit a close frame");
        assert!(!row.text.is_empty(), "SDKs read an empty reason as: come back");
        at += 1;
    }
};
