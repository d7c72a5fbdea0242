//! Words of features that this version does not have. A setting with such a word is no typo, so its
//! error names the feature and what to use instead.

/// A feature that is not part of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Later {
    /// The feature and "is" or "are".
    pub subject: &'static str,
    /// What to use meanwhile, as a sentence without its full stop.
    pub instead: &'static str,
}

/// Words of settings, in Centrifugo's names and in those of other servers, with their feature. A
/// word stands alone in a setting or between `_`. The first match counts.
const WORDS: [(&[&str], Later); 15] = [
    (
        &["subscribe_to_user_personal_channel", "user_subscribe_to_personal"],
        Later {
            subject: "personal channels of users are",
            instead: "subscribe clients with the method subscribe of the API",
        },
    ),
    (
        &["connections_per_address_max"],
        Later {
            subject: "a limit for the connections of one address is",
            instead: "set it in the proxy in front, such as limit_conn in nginx",
        },
    ),
    (
        &["metrics", "prometheus"],
        Later {
            subject: "a choice of metrics is",
            instead: "all are at /metrics of server.api_listen",
        },
    ),
    (
        &["presence", "join_leave"],
        Later {
            subject: "presence is",
            instead: "the application can follow clients with [events]",
        },
    ),
    (
        &["map", "map_broker", "shared_poll"],
        Later {
            subject: "this kind of subscription is",
            instead: "publish to a channel with a history, from which clients recover",
        },
    ),
    (
        &["proxy", "proxies", "webhook", "webhooks", "rpc"],
        Later {
            subject: "forwarding requests to the application is",
            instead: "set permissions in namespaces, and receive [events]",
        },
    ),
    (
        &["pusher", "socketio", "sockjs", "mqtt"],
        Later {
            subject: "the protocol of other servers is",
            instead: "use Centrifugo's SDKs, or plain WebSocket",
        },
    ),
    (
        &["tls", "ssl", "cert", "certificate", "autocert", "https", "http3", "quic"],
        Later { subject: "TLS is", instead: "terminate it in a proxy such as nginx or HAProxy" },
    ),
    (
        &["compression", "deflate", "permessage_deflate", "gzip"],
        Later { subject: "compression is", instead: "clients that offer it connect without it" },
    ),
    (
        &["kafka", "nats", "consumers", "postgresql", "postgres", "pubsub", "sqs", "rabbitmq"],
        Later {
            subject: "this source of publications is",
            instead: "publish through the HTTP API, or through Redis with redis.ingest",
        },
    ),
    (
        &[
            "sse",
            "http_stream",
            "uni_sse",
            "uni_http_stream",
            "uni_websocket",
            "uni_grpc",
            "grpc",
            "grpc_api",
            "emulation",
            "webtransport",
        ],
        Later {
            subject: "this transport is",
            instead: "use Centrifugo's protocol or plain WebSocket, and the HTTP API",
        },
    ),
    (&["protobuf"], Later { subject: "Protobuf is", instead: "SDKs use JSON by default" }),
    (
        &[
            "delta",
            "delta_publish",
            "allowed_delta_types",
            "tags_filter",
            "recovery_mode",
            "cache_recover",
        ],
        Later {
            subject: "this option of channels is",
            instead: "clients receive whole publications of their channels",
        },
    ),
    (
        &["admin", "swagger"],
        Later {
            subject: "an admin page is",
            instead: "use `corecast info`, `channels` and `history`, and the metrics",
        },
    ),
    (
        &[
            "token", "tokens", "jwt", "jwks", "hmac", "rsa", "ecdsa", "ed25519", "audience",
            "issuer", "secret",
        ],
        Later {
            subject: "tokens are",
            instead: "set auth.anonymous, and allow_…_for_anonymous in namespaces",
        },
    ),
];

/// Returns the feature to which an unknown setting or variable belongs.
pub(super) fn later(key: &str) -> Option<Later> {
    let padded = format!("_{}_", key.to_ascii_lowercase().replace(['.', '-'], "_"));
    let has = |word: &&str| padded.contains(&format!("_{word}_"));
    WORDS.iter().find(|(words, _)| words.iter().any(has)).map(|(_, later)| *later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stands_alone_or_between_other_words() {
        for (key, subject) in [
            ("channel.presence", "presence is"),
            ("channel.namespaces.allow_presence_for_subscriber", "presence is"),
            ("channel.force_push_join_leave", "presence is"),
            ("auth.hmac_secret_key", "tokens are"),
            ("client.token.hmac_secret_key", "tokens are"),
            ("server.tls", "TLS is"),
            ("CORECAST_SERVER_TLS_CERT", "TLS is"),
            ("kafka.brokers", "this source of publications is"),
            ("channel.allowed_delta_types", "this option of channels is"),
            ("client.subscribe_to_user_personal_channel.enabled", "personal channels of users are"),
            ("metrics.enabled", "a choice of metrics is"),
            ("client.connections_per_address_max", "a limit for the connections of one address is"),
            ("proxies", "forwarding requests to the application is"),
        ] {
            assert_eq!(later(key).map(|later| later.subject), Some(subject), "{key}");
        }
        for key in
            ["server.lisen", "client.allowed_origin", "server.mapping", "channel.historysize"]
        {
            assert_eq!(later(key), None, "{key}");
        }
    }
}
