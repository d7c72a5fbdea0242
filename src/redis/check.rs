//! Checks that a Redis can be used, before anything is kept in it.

use super::backoff::Backoff;
use super::handle::Handle;
use super::link::{Link, LinkError};
use crate::bus::{FORMAT, Keys, Reply};
use crate::limits::BUS_CALL_TIMEOUT;

/// The oldest Redis that has all the commands in use (XTRIM MINID, XAUTOCLAIM).
const VERSION_MIN: (u32, u32) = (6, 2);

/// Waits for Redis, and checks whether it can have a bus with this many `streams`. Meanwhile `tell`
/// gets the reason for the wait.
///
/// # Errors
/// The reason why it can't be used as it is, and how to fix it.
pub(crate) async fn wait_until_usable(
    redis: &Handle,
    streams: usize,
    tell: impl Fn(&str),
) -> Result<(), String> {
    let mut backoff = Backoff::new();
    loop {
        let found = match redis.connect(BUS_CALL_TIMEOUT).await {
            Ok(link) => look(redis.keys(), streams, &link).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(verdict) => return verdict,
            Err(error) => {
                let address = redis.address();
                tell(&format!("Redis at {address} can't be used yet: {error}"));
                if backoff.is_worth_a_line() {
                    tracing::warn!(
                        redis_address = %address, %error,
                        "could not reach Redis; the server starts as soon as it can"
                    );
                }
            }
        }
        backoff.pause().await;
    }
}

/// Checks a server. The outer error is temporary, and the inner one is not.
async fn look(keys: &Keys, streams: usize, link: &Link) -> Result<Result<(), String>, LinkError> {
    let key = keys.config();
    let info = link.call("INFO", &key, Vec::new()).await?;
    let info = info.text().unwrap_or_default();
    let field = |name: &str| {
        let lines = info.lines().filter_map(|line| line.split_once(':'));
        let mut named = lines.filter(|(field, _)| *field == name);
        named.next().map(|(_, value)| value.trim())
    };
    if let Err(refusal) = check_info(field("redis_version"), field("maxmemory_policy")) {
        return Ok(Err(refusal));
    }
    agree(keys, streams, link).await
}

/// Checks the settings that all nodes must agree on, and writes them if no node has. The outer
/// error is temporary.
pub(crate) async fn agree(
    keys: &Keys,
    streams: usize,
    link: &Link,
) -> Result<Result<(), String>, LinkError> {
    let key = keys.config();
    // A node of format 0 parses the whole text as the number of streams, and refuses to start.
    let written = format!("{streams} (format {FORMAT})");
    let args = vec![key.clone(), b"streams".to_vec(), written.into_bytes()];
    link.call("HSETNX", &key, args).await?;
    let kept = link.call("HGET", &key, vec![key.clone(), b"streams".to_vec()]).await?;
    Ok(check_streams(&kept, streams, keys.prefix()))
}

fn check_info(version: Option<&str>, policy: Option<&str>) -> Result<(), String> {
    let (major, minor) = VERSION_MIN;
    let numbers = version.and_then(|version| {
        let mut parts = version.split('.').map(str::parse::<u32>);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    });
    if numbers.is_none_or(|numbers| numbers < VERSION_MIN) {
        let version = version.unwrap_or("of unknown version");
        return Err(format!("Redis {version} is too old: {major}.{minor} or later is needed"));
    }
    check_policy(policy.unwrap_or_default())
}

/// Checks what Redis does when its memory is full. An empty policy passes: it means that the server
/// does not report one.
pub(crate) fn check_policy(policy: &str) -> Result<(), String> {
    if matches!(policy, "" | "noeviction") {
        return Ok(());
    }
    Err(format!(
        "Redis has maxmemory-policy {policy} and could evict the keys of the bus: set it to \
         noeviction (redis-cli CONFIG SET maxmemory-policy noeviction, and in redis.conf)"
    ))
}

fn check_streams(kept: &Reply, streams: usize, prefix: &str) -> Result<(), String> {
    let kept = kept.text().unwrap_or("unknown");
    let (number, format) = kept.split_once(" (format ").unwrap_or((kept, "0)"));
    let format = format.trim_end_matches(')');
    if format.parse() != Ok(FORMAT) {
        return Err(foreign_format(format, prefix));
    }
    if number.parse() == Ok(streams) {
        return Ok(());
    }
    Err(format!(
        "redis.streams is {streams}, but this Redis has a bus of {number} streams: use that \
         number, or another redis.prefix"
    ))
}

/// Returns the error for a bus that another version of Corecast has written.
fn foreign_format(found: &str, prefix: &str) -> String {
    format!(
        "this Redis has a bus of format {found}, and this version of Corecast needs format \
         {FORMAT}: run the version that wrote it; or stop all nodes and delete the bus \
         (redis-cli --scan --pattern '{prefix}:{{*}}:*' | xargs -d '\\n' redis-cli UNLINK \
         {prefix}:config); or set another redis.prefix"
    )
}

/// Adds the remedies to an error if a fence has met another format.
pub(crate) fn explain_format(error: LinkError, prefix: &str) -> LinkError {
    match &error {
        LinkError::Refused(text) => match text.strip_prefix("FORMAT ") {
            Some(found) => LinkError::Refused(foreign_format(found, prefix)),
            None => error,
        },
        LinkError::Lost(_) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_that_could_drop_positions_is_refused() {
        assert!(check_info(Some("7.0.15"), Some("noeviction")).is_ok());
        assert!(check_info(Some("6.2.0"), None).is_ok());
        assert!(check_info(Some("6.0.16"), Some("noeviction")).is_err());
        assert!(check_info(None, Some("noeviction")).is_err());
        assert!(
            check_info(Some("7.2"), Some("allkeys-lru"))
                .is_err_and(|text| { text.contains("allkeys-lru") && text.contains("CONFIG SET") })
        );
        let kept = |text: &str| check_streams(&Reply::Bytes(text.as_bytes().to_vec()), 8, "x");
        assert!(kept("8 (format 1)").is_ok());
        assert!(kept("4 (format 1)").is_err_and(|text| {
            text.contains("redis.streams is 8") && text.contains("4 streams")
        }));
        for other in ["8", "8 (format 2)", "8 (format x)", ""] {
            let text = kept(other).expect_err("another format");
            assert!(text.contains("needs format 1") && text.contains("'x:{*}:*'"), "{text}");
        }
    }
}
