//! What is asked of a Redis before anything is kept in it.

use super::link::{Link, LinkError};
use super::{Backoff, Bridge};
use crate::bus::Reply;
use crate::limits::BUS_CALL_TIMEOUT;

/// The oldest Redis that has all that the scripts use (XTRIM MINID, XAUTOCLAIM).
const VERSION_MIN: (u32, u32) = (6, 2);

/// Waits for Redis, and looks at it.
///
/// # Errors
/// It can't be used as it is: what is wrong, and what mends it.
pub(super) async fn run(bridge: &Bridge) -> Result<(), String> {
    let mut backoff = Backoff::new();
    loop {
        let found = match Link::connect(bridge, BUS_CALL_TIMEOUT).await {
            Ok(link) => look(bridge, &link).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(verdict) => return verdict,
            Err(error) => {
                let reason = format!("Redis at {} can't be used yet: {error}", bridge.place);
                bridge.show_start(&reason);
                if backoff.is_worth_a_line() {
                    tracing::warn!(
                        place = %bridge.place, %error,
                        "Redis can't be reached; the server starts when it can"
                    );
                }
            }
        }
        backoff.pause().await;
    }
}

/// The outer error passes, the inner one does not.
async fn look(bridge: &Bridge, link: &Link) -> Result<Result<(), String>, LinkError> {
    let key = bridge.keys.config();
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
    let streams = bridge.options.streams.to_string().into_bytes();
    let args = vec![key.clone(), b"streams".to_vec(), streams];
    link.call("HSETNX", &key, args).await?;
    let kept = link.call("HGET", &key, vec![key.clone(), b"streams".to_vec()]).await?;
    Ok(check_streams(&kept, bridge.options.streams))
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

/// Says what is wrong with what Redis does when its memory is full; nothing if it does not say.
pub(super) fn check_policy(policy: &str) -> Result<(), String> {
    if matches!(policy, "" | "noeviction") {
        return Ok(());
    }
    Err(format!(
        "Redis has maxmemory-policy {policy} and could drop what positions rest on: set it to \
         noeviction (redis-cli CONFIG SET maxmemory-policy noeviction, and in redis.conf)"
    ))
}

fn check_streams(kept: &Reply, streams: usize) -> Result<(), String> {
    match kept.number() {
        Some(kept) if kept == streams as u64 => Ok(()),
        _ => Err(format!(
            "redis.streams is {streams}, but this Redis has a bus of {} streams: use that number, \
             or another redis.prefix",
            kept.text().unwrap_or("unknown many")
        )),
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
        assert!(check_streams(&Reply::Bytes(b"8".to_vec()), 8).is_ok());
        assert!(check_streams(&Reply::Bytes(b"4".to_vec()), 8).is_err_and(|text| {
            text.contains("redis.streams is 8") && text.contains("4 streams")
        }));
    }
}
