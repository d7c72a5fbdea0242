//! Tables of reasons: the code, text and metric label of each, and whether a client should
//! reconnect. The codes are those of Centrifugo, and those of RFC 6455 for protocol errors.

use crate::limits::CLOSE_REASON_BYTES_MAX;

/// The details of a reason: one row of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Details {
    /// The code on the wire; 0 if nothing is sent.
    pub code: u16,
    /// The text on the wire. It is never empty if a code is sent, and never valid JSON, because
    /// SDKs treat empty and JSON reasons differently.
    pub text: &'static str,
    /// The value of the `reason` label in metrics.
    pub label: &'static str,
    /// Whether a client that follows Centrifugo's rules reconnects.
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

            /// Returns the code, texts and label of this reason.
            pub const fn details(self) -> Details {
                match self {
                    $($name::$variant => Details {
                        code: $code, text: $text, label: $label, reconnect: $reconnect,
                    },)*
                }
            }
        }
    };
}

reasons! {
    /// Reasons for closing a connection.
    CloseReason {
        /// The client sent a close frame.
        ClientClosed = 1000, "bye", "client_closed", true;
        /// The client's stream ended or was reset, so nothing can be sent.
        PeerGone = 0, "peer gone", "peer_gone", true;
        /// A frame violated RFC 6455.
        ProtocolError = 1002, "protocol error", "protocol_error", false;
        /// A text message is not UTF-8. RFC 6455 §8.1.
        InvalidUtf8 = 1007, "invalid utf-8", "invalid_utf8", false;
        /// The endpoint does not accept frames of this type. RFC 6455 §7.4.1.
        UnsupportedData = 1003, "unsupported data", "unsupported_data", false;
        /// A message is longer than `message_bytes_max`, or has more than `fragments_max` frames.
        MessageTooBig = 1009, "message too big", "message_too_big", false;
        /// The shard has no memory left for unfinished messages.
        InboundFull = 1013, "try again later", "inbound_full", true;
        /// The server stops or drains.
        Shutdown = 3001, "shutdown", "shutdown", true;
        /// The server failed while it handled bytes of this connection.
        InternalError = 3004, "internal server error", "internal_error", true;
        /// Redis can't be reached or refuses, and a request of the client needs it.
        BusUnavailable = 3004, "bus unavailable", "bus_unavailable", true;
        /// The client reads too slowly: its outbox is full.
        Slow = 3008, "slow", "slow", true;
        /// The node has no memory left for outboxes, and this outbox was the fullest of its shard.
        OutboxesFull = 3008, "slow", "outboxes_full", true;
        /// Publications were missed, and the protocol has no other message for that.
        InsufficientState = 3010, "insufficient state", "insufficient_state", true;
        /// The application asked the client to reconnect.
        ForceReconnect = 3011, "force reconnect", "force_reconnect", true;
        /// The client sent nothing within the pong timeout.
        NoPong = 3012, "no pong", "no_pong", true;
        /// The client sent more frames, pings or commands than allowed, or a limit on channels is
        /// reached.
        TooManyRequests = 3013, "too many requests", "too_many_requests", true;
        /// The client presented a token that this server can't accept.
        InvalidToken = 3500, "invalid token", "invalid_token", false;
        /// A message of the client is invalid.
        BadRequest = 3501, "bad request", "bad_request", false;
        /// The client never sent `connect`.
        Stale = 3502, "stale", "stale", false;
        /// The application closed the connection.
        ForceDisconnect = 3503, "force disconnect", "force_disconnect", false;
        /// The client subscribed to more channels than a connection may have.
        ChannelLimit = 3505, "channel limit", "channel_limit", false;
        /// The client asked for a form of the protocol that this server does not support.
        InappropriateProtocol = 3506, "inappropriate protocol", "inappropriate_protocol", false;
        /// The client lacks the permission for its request.
        PermissionDenied = 3507, "permission denied", "permission_denied", false;
        /// The client asked for a feature that is disabled.
        NotAvailable = 3508, "not available", "not_available", false;
        /// The request head did not arrive in time.
        HandshakeTimeout = 0, "handshake timeout", "handshake_timeout", true;
        /// The request was refused with an HTTP status, or was a plain HTTP request.
        Refused = 0, "refused", "refused", false;
        /// The application set its own code and text.
        Custom = 0, "custom", "custom", true;
    }
}

reasons! {
    /// Reasons why a request or a socket does not become a connection. The code is the HTTP status;
    /// 0 if there is no response, or if the connection is upgraded and closed immediately. A text
    /// with the value at fault may replace that of the table.
    Refusal {
        /// The bytes are not HTTP.
        NotHttp = 400, "this is not an HTTP/1.1 request", "not_http", false;
        /// A header of the PROXY protocol from a peer that `server.proxies` does not list, or a
        /// second one.
        ForeignProxy = 400, "a PROXY header is accepted only from server.proxies, once",
            "foreign_proxy", false;
        /// A proxy sent a malformed header of the PROXY protocol.
        BadProxyHeader = 400, "the PROXY header is invalid", "bad_proxy_header", false;
        /// The request target has neither a path nor a URL.
        BadTarget = 400, "the request target is malformed", "bad_target", false;
        /// `Host` is missing, repeated or invalid. RFC 9112 §3.2.
        BadHost = 400, "exactly one valid Host header is required", "bad_host", false;
        /// The request has a body, which would be taken for frames.
        Body = 400, "a request body is not allowed", "body", false;
        /// `Sec-WebSocket-Key` is missing, repeated or invalid.
        BadKey = 400, "exactly one Sec-WebSocket-Key of 16 bytes in base64 is required", "bad_key",
            false;
        /// `server.hosts` does not list the host.
        ForeignHost = 403, "the Host is not in server.hosts", "foreign_host", false;
        /// The page that connects is not allowed to.
        ForeignOrigin = 403, "the Origin is not in client.allowed_origins", "foreign_origin",
            false;
        /// There is more than one origin, or one that is not text.
        BadOrigin = 403, "at most one valid Origin header is allowed", "bad_origin", false;
        /// A page of another site connects, and its origin was removed on the way.
        CrossSite = 403, "a page of another site (Sec-Fetch-Site) must send its Origin",
            "cross_site", false;
        /// There is nothing at this path.
        UnknownPath = 404, "unknown path", "unknown_path", false;
        /// The path does not accept the method.
        BadMethod = 405, "only GET is allowed", "bad_method", false;
        /// The request asks for no WebSocket.
        NoUpgrade = 426, "this path requires a WebSocket upgrade", "no_upgrade", false;
        /// The request asks for another version of WebSocket.
        BadVersion = 426, "Sec-WebSocket-Version must be 13", "bad_version", false;
        /// The request head is longer than `client.handshake_bytes_max`.
        HeadTooLong = 431, "the request head is longer than client.handshake_bytes_max",
            "head_too_long", false;
        /// The request has too many header lines.
        TooManyHeaders = 431, "the request head has more than 64 header lines", "too_many_headers",
            false;
        /// The request has another version of HTTP.
        HttpVersion = 505, "HTTP/1.1 is required", "http_version", false;
        /// The request head did not arrive in time.
        Timeout = 408, "request timeout", "timeout", true;
        /// The request head came in too many pieces.
        Pieces = 0, "too many pieces", "pieces", false;
        /// The shard or the node has no room.
        Full = 503, "full", "full", true;
        /// Too many clients of the network wait for `accept_rate`.
        Busy = 503, "busy", "busy", true;
        /// The node has not loaded the bus yet.
        Starting = 503, "starting", "starting", true;
        /// The node stops.
        Draining = 503, "draining", "draining", true;
        /// The channels of a plain WebSocket are not available at present.
        Channels = 503, "channels not available", "channels", true;
        /// A plain WebSocket was upgraded and closed immediately, because a retry would not help.
        /// The close has a reason of its own.
        Closed = 0, "closed", "closed", false;
        /// The client left before it had a response.
        Left = 0, "left", "left", true;
        /// The server failed while it read the request.
        Internal = 0, "internal server error", "internal_error", true;
    }
}

impl Refusal {
    /// Returns the value of the `result` label in metrics, which is coarser than the reason.
    pub const fn result(self) -> &'static str {
        match self {
            Refusal::Timeout => "timeout",
            Refusal::Full => "full",
            Refusal::Busy => "busy",
            Refusal::Channels => "unavailable",
            Refusal::Left => "gone",
            _ => "refused",
        }
    }
}

reasons! {
    /// Errors of requests. The connection stays open. `reconnect` says whether the error is
    /// temporary.
    ClientError {
        /// The server failed.
        Internal = 100, "internal server error", "internal", true;
        /// Redis can't be reached or refuses, so nothing was published.
        BusUnavailable = 100, "bus unavailable: nothing was published; try again",
            "bus_unavailable", true;
        /// Redis can't be reached, so the position of a channel is unknown.
        BusAway = 100, "bus unavailable: Redis can't be reached; try again", "bus_away", true;
        /// Redis did not confirm in time, so the message may have been published, once.
        ResultUnknown = 100,
            "result unknown: it may have been published; retry with the same idempotency_key",
            "result_unknown", true;
        /// The request needs credentials.
        Unauthorized = 101, "unauthorized", "unauthorized", false;
        /// The channel's namespace does not exist.
        UnknownChannel = 102, "unknown channel", "unknown_channel", false;
        /// The namespace does not allow the request.
        PermissionDenied = 103, "permission denied", "permission_denied", false;
        /// There is no such method.
        MethodNotFound = 104, "method not found", "method_not_found", false;
        /// The connection is subscribed already.
        AlreadySubscribed = 105, "already subscribed", "already_subscribed", false;
        /// A limit on a number is reached.
        LimitExceeded = 106, "limit exceeded", "limit_exceeded", false;
        /// A publication is too long for any recovery to return it. See
        /// [`RECOVERY_BYTES_MAX`](crate::limits::RECOVERY_BYTES_MAX).
        PublicationTooLong = 106,
            "limit exceeded: a channel with history accepts up to 786432 bytes as JSON",
            "publication_too_long", false;
        /// A value is missing, malformed or too long.
        BadRequest = 107, "bad request", "bad_request", false;
        /// The feature is disabled for this channel, or this server does not support it.
        NotAvailable = 108, "not available", "not_available", false;
        /// There are too many requests at the moment; retry later.
        TooManyRequests = 111, "too many requests", "too_many_requests", true;
        /// The client creates channels faster than it may.
        ClientCreates = 111,
            "too many requests: client.channels_created_per_second_max is reached",
            "client_creates", true;
        /// The clients of one network create channels faster than they may together.
        NetworkCreates = 111,
            "too many requests: this network has its share of channel.created_per_second_max",
            "network_creates", true;
        /// All clients of the node create channels faster than they may together.
        NodeCreates = 111, "too many requests: channel.created_per_second_max is reached",
            "node_creates", true;
        /// The clients of one network have as many channels as they may have together.
        NetworkChannels = 111,
            "too many requests: this network has its share of channel.channels_max",
            "network_channels", true;
        /// The node has as many channels with subscribers as it may have.
        NodeChannels = 111, "too many requests: channel.channels_max is reached",
            "node_channels", true;
        /// The server can't continue from the requested position.
        UnrecoverablePosition = 112, "unrecoverable position", "unrecoverable_position", false;
    }
}

impl ClientError {
    /// Returns the most similar close code, for requests whose error can only be told by a close.
    /// The text of the error explains it better than that of the code.
    pub const fn close_reason(self) -> CloseReason {
        match self {
            ClientError::Internal => CloseReason::InternalError,
            ClientError::BusUnavailable | ClientError::BusAway | ClientError::ResultUnknown => {
                CloseReason::BusUnavailable
            }
            ClientError::PermissionDenied => CloseReason::PermissionDenied,
            ClientError::LimitExceeded => CloseReason::ChannelLimit,
            ClientError::PublicationTooLong => CloseReason::MessageTooBig,
            ClientError::NotAvailable => CloseReason::NotAvailable,
            ClientError::TooManyRequests
            | ClientError::ClientCreates
            | ClientError::NetworkCreates
            | ClientError::NodeCreates
            | ClientError::NetworkChannels
            | ClientError::NodeChannels => CloseReason::TooManyRequests,
            ClientError::UnrecoverablePosition => CloseReason::InsufficientState,
            ClientError::Unauthorized
            | ClientError::UnknownChannel
            | ClientError::MethodNotFound
            | ClientError::AlreadySubscribed
            | ClientError::BadRequest => CloseReason::BadRequest,
        }
    }
}

/// Reasons for ending a subscription while its connection stays open. Clients resubscribe on codes
/// of 2500 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsubscribeReason {
    /// The application ended the subscription.
    Server,
    /// Publications were missed; the client recovers from its position.
    InsufficientState,
}

impl UnsubscribeReason {
    /// Returns the code and text on the wire. Source: Centrifugo's unsubscribe codes.
    pub const fn code_and_text(self) -> (u16, &'static str) {
        match self {
            UnsubscribeReason::Server => (2000, "server unsubscribe"),
            UnsubscribeReason::InsufficientState => (2500, "insufficient state"),
        }
    }
}

reasons! {
    /// Reasons for dropping messages. Each drop is counted, and its receiver is told.
    DropReason {
        /// The namespace of a slow client has the policy `skip`, and its outbox was full.
        SlowSkip = 0, "slow skip", "slow_skip", false;
        /// The inbox of a thread and the sender's spill for it were full, so a gap notice was sent.
        SpillFull = 0, "spill full", "spill_full", false;
    }
}

reasons! {
    /// Reasons for removing an entry of a history early. Each removal is counted.
    Eviction {
        /// A publication was dropped because the histories had used up their bytes.
        Bytes = 0, "bytes", "bytes", false;
        /// The position of an unused channel was dropped because the histories had used up their
        /// bytes.
        Position = 0, "position", "position", false;
        /// A publication was dropped because it does not lead to the current position of the
        /// channel, or because that position is unknown.
        Unverified = 0, "unverified", "unverified", false;
    }
}

const _: () = {
    let mut at = 0;
    while at < CloseReason::ALL.len() {
        let text = CloseReason::ALL[at].details().text;
        assert!(text.len() <= CLOSE_REASON_BYTES_MAX, "a reason must fit into a close frame");
        assert!(!text.is_empty(), "SDKs reconnect on an empty reason");
        at += 1;
    }
};
