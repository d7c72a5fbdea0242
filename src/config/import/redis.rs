//! The settings of Redis as one URL.

use serde_json::Value as Json;

use super::values::{text, texts};
use crate::settings::Settings;

/// The address of Redis if the file has none.
pub(super) const ADDRESS: &str = "127.0.0.1:6379";

/// What Centrifugo's settings say of Redis.
#[derive(Debug, Default)]
pub(super) struct Redis {
    /// Whether Redis is used at all.
    pub(super) on: bool,
    addresses: Vec<String>,
    cluster: Vec<String>,
    sentinels: Vec<String>,
    sentinel_name: String,
    sentinel_user: String,
    sentinel_password: String,
    user: String,
    password: String,
    database: String,
    prefix: String,
    tls: bool,
}

/// Returns the name of a setting of Redis without its section: `address` for
/// `engine.redis.address`, and for `redis_address` of version 5.
pub(super) fn setting(key: &str) -> Option<&str> {
    ["engine.redis.", "broker.redis.", "redis_"].iter().find_map(|begin| key.strip_prefix(begin))
}

impl Redis {
    /// Takes a setting. Returns whether it has a place in a URL, or can be left out.
    pub(super) fn take(&mut self, name: &str, value: &Json) -> bool {
        let nodes = |value: &Json| -> Vec<String> {
            let all = texts(value);
            all.iter().flat_map(|one| one.split(',')).map(|one| one.trim().to_owned()).collect()
        };
        match name {
            "address" => self.addresses = nodes(value),
            "cluster_address" => self.cluster = nodes(value),
            "sentinel_address" => self.sentinels = nodes(value),
            "sentinel_master_name" => self.sentinel_name = text(value),
            "sentinel_user" => self.sentinel_user = text(value),
            "sentinel_password" => self.sentinel_password = text(value),
            "user" => self.user = text(value),
            "password" => self.password = text(value),
            "db" => self.database = text(value),
            "prefix" => self.prefix = text(value),
            "tls" | "tls.enabled" => self.tls = value.as_bool() == Some(true),
            // Corecast has names and deadlines of its own.
            "connect_timeout"
            | "io_timeout"
            | "client_name"
            | "force_resp2"
            | "use_lists"
            | "history_use_lists"
            | "presence_ttl"
            | "sentinel_client_name" => {}
            _ => return false,
        }
        true
    }

    /// The prefix of keys, which keeps deployments on the same Redis apart, if the file has one.
    pub(super) fn own_prefix(&self) -> Option<String> {
        (!self.prefix.is_empty()).then(|| self.prefix.clone())
    }

    /// The prefix of keys in the result.
    pub(super) fn prefix(&self) -> String {
        self.own_prefix().unwrap_or_else(|| Settings::default().redis.prefix)
    }

    /// Whether `address` is one of this Redis.
    pub(super) fn is_at(&self, address: &str) -> bool {
        let mut all = self.addresses.iter().chain(&self.cluster).chain(&self.sentinels).peekable();
        match all.peek() {
            None => bare(address) == ADDRESS,
            Some(_) => all.any(|one| bare(one) == bare(address)),
        }
    }

    /// Returns the URL, and a note about what it can't say.
    pub(super) fn url(&self) -> (String, Option<&'static str>) {
        let tls = if self.tls { "s" } else { "" };
        let login = self.login();
        let database = match self.database.as_str() {
            "" | "0" => String::new(),
            number => format!("/{number}"),
        };
        if let Some((first, others)) = self.cluster.split_first() {
            let url = format!("redis{tls}-cluster://{login}{}", bare(first));
            return (with_nodes(url, '?', others), None);
        }
        if let Some((first, others)) = self.sentinels.split_first() {
            let mut url = format!("redis{tls}-sentinel://{login}{}{database}", bare(first));
            url += &format!("?sentinelServiceName={}", encoded(&self.sentinel_name));
            for (name, value) in [
                ("sentinelUsername", &self.sentinel_user),
                ("sentinelPassword", &self.sentinel_password),
            ] {
                if !value.is_empty() {
                    url += &format!("&{name}={}", encoded(value));
                }
            }
            return (with_nodes(url, '&', others), None);
        }
        let first = self.addresses.first().map_or(ADDRESS, String::as_str);
        let several = "several addresses divide channels there: Corecast uses the first one, and a \
                       cluster (redis-cluster://…) for more";
        let note = (self.addresses.len() > 1).then_some(several);
        if let Some(path) = first.strip_prefix("unix://") {
            return (format!("redis+unix://{login}{path}"), note);
        }
        if first.contains('@') {
            return (first.to_owned(), note);
        }
        let tls = if first.starts_with("rediss://") { "s" } else { tls };
        let path = bare(first);
        let database = if path.contains('/') { String::new() } else { database };
        (format!("redis{tls}://{login}{path}{database}"), note)
    }

    fn login(&self) -> String {
        if self.user.is_empty() && self.password.is_empty() {
            return String::new();
        }
        format!("{}:{}@", encoded(&self.user), encoded(&self.password))
    }
}

/// An address without its scheme.
fn bare(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, rest)| rest).trim_end_matches('/')
}

fn with_nodes(mut url: String, first: char, others: &[String]) -> String {
    let mut mark = first;
    for node in others {
        url += &format!("{mark}node={}", bare(node));
        mark = '&';
    }
    url
}

/// Percent-encodes what has a meaning in URLs (RFC 3986 §2.3).
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}
