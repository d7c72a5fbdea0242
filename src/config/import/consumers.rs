//! Consumers: the sources outside from which Centrifugo takes publications. Those that read streams
//! of Redis have an equivalent, `redis.ingest`.

use serde_json::Value as Json;

use super::redis::{ADDRESS, Redis};
use super::values::{is_off, text, texts};

/// The consumers so far that read streams of Redis.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    streams: Vec<String>,
    sources: Vec<Source>,
}

/// What one consumer says of its Redis.
#[derive(Debug)]
struct Source {
    /// The consumer, in Centrifugo's words.
    key: String,
    address: String,
    group: String,
}

/// Advice for one setting.
pub(super) struct Advice {
    /// The setting, in Centrifugo's words.
    pub(super) key: String,
    pub(super) text: String,
}

const OTHER_REDIS: &str = "streams are only read from the Redis of redis.url, which is another: \
                           let the application add its entries there";
const NO_REDIS: &str = "streams are only read from the Redis of redis.url: set it to the Redis of \
                        these streams, which then connects the nodes as well";
const GROUP: &str = "the consumer group has the name of redis.prefix. A new group begins with the \
                     first entry of a stream: trim the stream before, or old entries are published \
                     again";
const FIELDS: &str = "the names of fields are fixed: an entry has channel and data, or method and \
                      payload, as docs/ingest.md describes";

impl Consumers {
    /// Adds a consumer. Returns what has no equivalent.
    pub(super) fn add(&mut self, consumer: &Json) -> Vec<Advice> {
        let mut found = Vec::new();
        let mut tell = |key: String, text: &str| found.push(Advice { key, text: text.to_owned() });
        let key = format!("consumers[{:?}]", text(&consumer["name"]));
        if consumer["enabled"] == Json::Bool(false) {
            return found;
        }
        let kind = text(&consumer["type"]);
        if kind != "redis_stream" {
            let words = format!(
                "a consumer of the type {kind:?} is not part of this version: publish through the \
                 HTTP API, or through a stream of Redis (redis.ingest)"
            );
            tell(key, &words);
            return found;
        }
        let settings = &consumer["redis_stream"];
        for (name, value) in settings.as_object().into_iter().flatten() {
            let fields = match name.as_str() {
                "method_value" => text(value) != "method",
                "payload_value" => text(value) != "payload",
                "publication_data_mode" => value["enabled"] == Json::Bool(true),
                "streams" | "address" | "consumer_group" | "visibility_timeout" | "num_workers" => {
                    continue;
                }
                _ => {
                    if !is_off(value) && value["enabled"] != Json::Bool(false) {
                        let words = "streams are read with the connection of redis.url alone";
                        tell(format!("{key}.{name}"), words);
                    }
                    continue;
                }
            };
            if fields && !is_off(value) {
                tell(format!("{key}.{name}"), FIELDS);
            }
        }
        for stream in texts(&settings["streams"]) {
            if !self.streams.contains(&stream) {
                self.streams.push(stream);
            }
        }
        let address = texts(&settings["address"]).into_iter().next();
        let address = address.unwrap_or_else(|| ADDRESS.to_owned());
        self.sources.push(Source { key, address, group: text(&settings["consumer_group"]) });
        found
    }

    /// The streams to read. Each is there once, in the order of the file.
    pub(super) fn streams(&self) -> &[String] {
        &self.streams
    }

    /// Returns the differences that depend on the Redis that connects the nodes.
    pub(super) fn differences(&self, redis: &Redis) -> Vec<Advice> {
        let mut found = Vec::new();
        for Source { key, address, group } in &self.sources {
            let mut tell = |name: &str, text: &str| {
                found.push(Advice { key: format!("{key}.{name}"), text: text.to_owned() });
            };
            if !redis.on {
                tell("address", NO_REDIS);
            } else if !redis.is_at(address) {
                tell("address", OTHER_REDIS);
            }
            if *group != redis.prefix() {
                tell("consumer_group", GROUP);
            }
        }
        found
    }
}
