//! Finds settings that are out of range or don't fit together, and says how to fix each. Pure.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::check_access::{check_doors, check_paths};
use super::problem::{Found, Problem};
use crate::channel::{Namespace, SlowPolicy};
use crate::ids::{ShardId, Slot};
use crate::limits::{
    CHANNEL_BYTES_MAX, CONNECTION_CHANNELS_MAX, CPUS_MAX, NODE_NAME_BYTES_MAX,
    SETTING_ACCEPT_RATE_MAX, SETTING_BODY_BYTES_MAX, SETTING_EVENTS_BYTES_MAX,
    SETTING_EVENTS_BYTES_MIN, SETTING_EVENTS_MESSAGES_MIN, SETTING_EVENTS_MIN,
    SETTING_FRAMES_PER_SECOND_MAX, SETTING_HANDSHAKE_BYTES_MAX, SETTING_HANDSHAKE_BYTES_MIN,
    SETTING_KEEP_ALIVE_MAX, SETTING_MESSAGE_BYTES_MAX, SETTING_MESSAGE_BYTES_MIN,
    SETTING_PER_SECOND_MAX, SETTING_PING_INTERVAL_MIN, SETTING_PINGS_PER_SECOND_MAX,
    SETTING_STREAM_BYTES_MAX, SETTING_STREAM_BYTES_MIN, SETTING_TIMEOUT_MIN, STREAMS_MAX,
};
use crate::settings::Settings;

/// Returns all problems of `settings`, so that one run shows everything that needs a fix.
pub(super) fn problems(settings: &Settings) -> Vec<Problem> {
    let mut found = Found::default();
    check_server(settings, &mut found);
    check_doors(settings, &mut found);
    check_paths(settings, &mut found);
    check_heartbeat(settings, &mut found);
    check_sizes(settings, &mut found);
    check_namespaces(settings, &mut found);
    check_redis(settings, &mut found);
    check_events(settings, &mut found);
    found.problems
}

/// Returns the problems that matter only to a server that is about to start.
pub(super) fn serve_problems(settings: &Settings) -> Vec<Problem> {
    let mut found = Found::default();
    if settings.api.keys.is_empty() && !settings.dev {
        let text = "is empty, so no application can publish: add a key (openssl rand -hex 32) to \
                    the file or set CORECAST_API_KEYS, or use --dev";
        found.add("api.keys", text.to_owned());
    }
    for (at, namespace) in settings.channel.namespaces.iter().enumerate() {
        if namespace.durable_history && settings.redis.url.is_empty() {
            let text = "keeps history in Redis: set redis.url, or set this to false";
            found.add(&format!("{}.durable_history", key_of(at, namespace)), text.to_owned());
        }
    }
    found.problems
}

fn check_server(settings: &Settings, found: &mut Found) {
    let server = &settings.server;
    if server.listen.is_empty() {
        let text = "is empty: clients need an address, such as [\"0.0.0.0:8000\"]";
        found.add("server.listen", text.to_owned());
    }
    if server.name.len() > NODE_NAME_BYTES_MAX || server.name.contains(char::is_control) {
        let text = format!(
            "is longer than {NODE_NAME_BYTES_MAX} bytes or has control characters: choose a short \
             name, such as \"eu-1\""
        );
        found.add("server.name", text);
    }
    let mut taken = HashSet::new();
    for address in server.listen.iter().chain([&server.api_listen]) {
        // Port 0 means any free port, so it may be used twice.
        if address.tcp().is_none_or(|tcp| tcp.port() != 0) && !taken.insert(address) {
            let text = format!("uses {address} twice: each listener needs its own address");
            found.add("server.listen", text);
        }
    }
    found.range("server.shards", server.shards, 0..=ShardId::COUNT_MAX);
    found.range("server.max_connections", server.max_connections, 1..=usize::MAX >> 1);
    if server.shards > 0 && server.max_connections.div_ceil(server.shards) > Slot::COUNT_MAX {
        let text = format!(
            "= {} is more than {} shards can hold ({} each): use a lower value",
            server.max_connections,
            server.shards,
            Slot::COUNT_MAX
        );
        found.add("server.max_connections", text);
    }
    found.range("server.accept_rate", server.accept_rate as usize, 1..=SETTING_ACCEPT_RATE_MAX);
    for &cpu in &server.cpu_affinity {
        found.range("server.cpu_affinity", cpu, 0..=CPUS_MAX - 1);
    }
    found.duration("server.drain_delay", server.drain_delay, Duration::ZERO);
    found.duration("server.drain", server.drain, Duration::ZERO);
}

fn check_events(settings: &Settings, found: &mut Found) {
    let events = &settings.events;
    if settings.has_events() && !settings.redis.is_on() {
        let text = "are enabled, but there is no Redis to append them to: set redis.url";
        found.add("events", text.to_owned());
    }
    if events.stream.is_empty() || settings.redis.ingest.contains(&events.stream) {
        let text =
            format!("= {:?} is empty or also in redis.ingest: use another name", events.stream);
        found.add("events.stream", text);
    }
    found.range("events.entries_max", events.entries_max, SETTING_EVENTS_MIN..=usize::MAX >> 1);
    // Without events the stream gets no messages of clients, so their length does not matter.
    let messages_bytes = SETTING_EVENTS_MESSAGES_MIN * settings.client.message_bytes_max;
    let least = if settings.has_events() {
        messages_bytes.max(SETTING_EVENTS_BYTES_MIN)
    } else {
        SETTING_EVENTS_BYTES_MIN
    };
    found.range("events.bytes_max", events.bytes_max, least..=SETTING_EVENTS_BYTES_MAX);
}

fn check_redis(settings: &Settings, found: &mut Found) {
    let redis = &settings.redis;
    if redis.is_on()
        && let Err(error) = crate::redis::check_url(&redis.url)
    {
        // The message does not contain the URL itself, which may have a password.
        let text = format!(
            "is not a valid Redis URL ({error}): use redis://host:6379, rediss://…, \
             redis+unix:///path, redis-sentinel://… or redis-cluster://…"
        );
        found.add("redis.url", text);
    }
    let name = |text: &str| {
        !text.is_empty()
            && text.len() <= CHANNEL_BYTES_MAX
            && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}'))
    };
    for (key, text) in std::iter::once(("redis.prefix", &redis.prefix))
        .chain(redis.ingest.iter().map(|stream| ("redis.ingest", stream)))
    {
        if !name(text) {
            let text = format!(
                "has the invalid name {text:?}: use 1 to {CHANNEL_BYTES_MAX} printable ASCII \
                 characters without spaces and braces"
            );
            found.add(key, text);
        }
    }
    found.range("redis.streams", redis.streams, 1..=STREAMS_MAX);
    let bytes = SETTING_STREAM_BYTES_MIN..=SETTING_STREAM_BYTES_MAX;
    found.range("redis.stream_bytes_max", redis.stream_bytes_max, bytes);
}

fn check_heartbeat(settings: &Settings, found: &mut Found) {
    let client = &settings.client;
    let (interval_min, timeout_min) = (SETTING_PING_INTERVAL_MIN, SETTING_TIMEOUT_MIN);
    found.duration("client.ping_interval", client.ping_interval, interval_min);
    found.duration("client.pong_timeout", client.pong_timeout, timeout_min);
    found.duration("client.handshake_timeout", client.handshake_timeout, timeout_min);
    found.duration("client.stale_timeout", client.stale_timeout, timeout_min);
    let (keep_alive, least, most) = (settings.api.keep_alive, interval_min, SETTING_KEEP_ALIVE_MAX);
    if !(least..=most).contains(&keep_alive) {
        let text = format!("= {keep_alive:?} is out of range: use {least:?} to {most:?}");
        found.add("api.keep_alive", text);
    }
    if client.ping_interval.subsec_nanos() != 0 {
        let text = format!(
            "= {:?} is invalid: clients receive it in whole seconds; use {}s or more",
            client.ping_interval,
            client.ping_interval.as_secs().max(1)
        );
        found.add("client.ping_interval", text);
    }
    if client.pong_timeout >= client.ping_interval {
        let text = format!(
            "= {:?} must be shorter than client.ping_interval = {:?}, because a pong must be due \
             before the next ping: use a shorter timeout or a longer interval",
            client.pong_timeout, client.ping_interval
        );
        found.add("client.pong_timeout", text);
    }
}

fn check_sizes(settings: &Settings, found: &mut Found) {
    const PER_SECOND: RangeInclusive<usize> = 1..=SETTING_PER_SECOND_MAX;
    let client = &settings.client;
    found.range(
        "client.message_bytes_max",
        client.message_bytes_max,
        SETTING_MESSAGE_BYTES_MIN..=SETTING_MESSAGE_BYTES_MAX,
    );
    let bytes = SETTING_HANDSHAKE_BYTES_MIN..=SETTING_HANDSHAKE_BYTES_MAX;
    found.range("client.handshake_bytes_max", client.handshake_bytes_max, bytes);
    found.range("client.fragments_max", client.fragments_max as usize, 1..=u32::MAX as usize);
    let frames = client.frames_per_second_max as usize;
    found.range("client.frames_per_second_max", frames, 1..=SETTING_FRAMES_PER_SECOND_MAX as usize);
    let pings = client.pings_per_second_max as usize;
    found.range("client.pings_per_second_max", pings, 1..=SETTING_PINGS_PER_SECOND_MAX as usize);
    found.range("client.channels_max", client.channels_max, 1..=CONNECTION_CHANNELS_MAX);
    let created = client.channels_created_per_second_max as usize;
    found.range("client.channels_created_per_second_max", created, PER_SECOND);
    let created = settings.channel.created_per_second_max as usize;
    found.range("channel.created_per_second_max", created, PER_SECOND);
    found.range("client.channel_bytes_max", client.channel_bytes_max, 1..=CHANNEL_BYTES_MAX);
    found.range("api.body_bytes_max", settings.api.body_bytes_max, 1024..=SETTING_BODY_BYTES_MAX);
    if client.outboxes_bytes_max < client.outbox_bytes_max {
        let text = format!(
            "= {} bytes is less than client.outbox_bytes_max = {} bytes, the size of one outbox: \
             raise the first or lower the second",
            client.outboxes_bytes_max, client.outbox_bytes_max
        );
        found.add("client.outboxes_bytes_max", text);
    }
    let bytes = settings.api.idempotency_bytes_max;
    found.range("api.idempotency_bytes_max", bytes, 0..=usize::MAX >> 1);
    found.range("channel.channels_max", settings.channel.channels_max, 1..=u32::MAX as usize);
    for (key, bytes) in [
        ("client.inbound_bytes_max", client.inbound_bytes_max),
        ("client.outbox_bytes_max", client.outbox_bytes_max),
    ] {
        if bytes < client.message_bytes_max {
            let text = format!(
                "= {bytes} bytes is less than client.message_bytes_max = {} bytes, the size of one \
                 message: raise the first or lower the second",
                client.message_bytes_max
            );
            found.add(key, text);
        }
    }
}

fn check_namespaces(settings: &Settings, found: &mut Found) {
    let mut names = HashSet::new();
    for (at, namespace) in settings.channel.namespaces.iter().enumerate() {
        let key = key_of(at, namespace);
        if at > 0 && !is_namespace_name(&namespace.name) {
            let text = "needs a name of letters, digits, '-', '_' and '.'; the channels of the \
                        namespace \"chat\" are \"chat:…\"";
            found.add(&key, text.to_owned());
        }
        let (bytes, most) = (namespace.name.len(), settings.client.channel_bytes_max);
        if at > 0 && bytes + ":x".len() > most {
            let text = format!(
                "has a name of {bytes} bytes, and its channels have at least 2 bytes more, but \
                 client.channel_bytes_max = {most}: use a shorter name, or raise that limit"
            );
            found.add(&key, text);
        }
        if at > 0 && !names.insert(&namespace.name) {
            found.add(&key, "is defined twice: merge the two definitions".to_owned());
        }
        check_namespace(namespace, &key, found);
    }
}

/// The key of the namespace with index `at`, as messages show it.
fn key_of(at: usize, namespace: &Namespace) -> String {
    if at == 0 {
        return "channel".to_owned();
    }
    format!("channel.namespaces[{:?}]", namespace.name)
}

fn is_namespace_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}

fn check_namespace(namespace: &Namespace, key: &str, found: &mut Found) {
    let (size, ttl) = (namespace.history_size, namespace.history_ttl);
    if size > 0 && ttl.is_zero() {
        let text = format!(
            "= {size} has no effect while history_ttl is 0s: set history_ttl too, for example to 5m"
        );
        found.add(&format!("{key}.history_size"), text);
    }
    let recovers = [
        ("force_recovery", namespace.force_recovery),
        ("allow_recovery", namespace.allow_recovery),
        ("durable_history", namespace.durable_history),
    ];
    for (option, _) in recovers.iter().filter(|(_, on)| *on && size == 0) {
        let text = "needs a history: set history_size and history_ttl too";
        found.add(&format!("{key}.{option}"), text.to_owned());
    }
    if namespace.force_positioning && size == 0 {
        let text = "has no effect without a history, because only histories have positions: set \
                    history_size and history_ttl too";
        found.add(&format!("{key}.force_positioning"), text.to_owned());
    }
    if namespace.slow_policy == SlowPolicy::Skip {
        let others = [
            ("history_size", size > 0),
            ("force_recovery", namespace.force_recovery),
            ("allow_recovery", namespace.allow_recovery),
            ("force_positioning", namespace.force_positioning),
            ("allow_positioning", namespace.allow_positioning),
        ];
        for (option, _) in others.iter().filter(|(_, on)| *on) {
            let text = format!(
                "= \"skip\" causes gaps, but {option} promises that there are none: use \
                 \"disconnect\" here, or disable {option}"
            );
            found.add(&format!("{key}.slow_policy"), text);
        }
    }
}
