//! Parses the request target: the path, and the query of `/ws`.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::handshake::PlainRequest;
use crate::ids::{Since, SinceEpoch};
use crate::limits::{CONNECTION_CHANNELS_MAX, RECOVERY_PUBLICATIONS_MAX};

/// The parts of a request target. RFC 9112 §3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'t> {
    /// The host of a target in absolute form, which overrides the `Host` header.
    pub(super) authority: Option<&'t str>,
    /// The path, still encoded.
    pub(super) path: &'t str,
    /// The text after `?`, still encoded; empty if there is none.
    pub(super) query: &'t str,
}

impl<'t> Target<'t> {
    /// Parses `text`. `None` if it has neither origin form nor absolute form.
    pub(super) fn parse(text: &'t str) -> Option<Target<'t>> {
        // RFC 6455 §3: fragment identifiers MUST NOT be used.
        if text.contains('#') {
            return None;
        }
        if text.starts_with('/') {
            return Some(Target::parse_path(None, text));
        }
        let (scheme, rest) = text.split_once("://")?;
        let is_web =
            ["http", "https", "ws", "wss"].iter().any(|web| web.eq_ignore_ascii_case(scheme));
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        (is_web && !authority.is_empty()).then(|| Target::parse_path(Some(authority), path))
    }

    fn parse_path(authority: Option<&'t str>, text: &'t str) -> Target<'t> {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        Target { authority, path, query }
    }
}

/// Returns the decoded names and values of `query`, with `None` in place of an invalid pair.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = Option<(Cow<'_, str>, Cow<'_, str>)>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode(name)?, decode(value)?))
    })
}

/// Decodes `%` with two digits, and `+` as a space, as in the encoding of forms, which URL builders
/// use. `None` if a `%` has no digits, or if the result is not UTF-8.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => decode_digit(bytes.next()?)? << 4 | decode_digit(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn decode_digit(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

/// Parses the query of `/ws`. Unknown names are ignored.
///
/// # Errors
/// The error in the query, as the reason of a close frame.
pub(super) fn plain_request(query: &str) -> Result<PlainRequest, &'static str> {
    let mut request = PlainRequest::default();
    let (mut positions, mut last) = (Vec::new(), None);
    for pair in pairs(query) {
        let (name, value) = pair.ok_or("the query is not percent-encoded UTF-8")?;
        match &*name {
            "channels" if value.is_empty() => {}
            "channels" => {
                request.channels.extend(value.split(',').map(|name| (name.to_owned(), None)));
            }
            "envelope" if value == "json" => request.envelope = true,
            "envelope" => return Err("envelope must be: json"),
            "heartbeat" if value == "json" => request.heartbeat = true,
            "heartbeat" => return Err("heartbeat must be: json"),
            "since" => positions.push(value),
            "last" if last.is_some() => return Err("last must be given once"),
            "last" => last = Some(plain_last(&value)?),
            "publish" if request.publish.is_some() => return Err("publish must be given once"),
            "publish" => request.publish = Some(value.into_owned()),
            _ => {}
        }
    }
    request.last = last.unwrap_or(0);
    if request.heartbeat && !request.envelope {
        return Err("heartbeat needs envelope=json");
    }
    let mut names = request.channels.iter().map(|(name, _)| name).chain(&request.publish);
    if names.any(String::is_empty) {
        return Err("a channel has an empty name");
    }
    if request.channels.len() > CONNECTION_CHANNELS_MAX {
        return Err("channels has more channels than a connection may have");
    }
    if request.channels.is_empty() && request.publish.is_none() {
        return Err("channels or publish is required");
    }
    place_channels(&mut request.channels, &positions)?;
    Ok(request)
}

/// Removes repeated channels, and assigns each position to the channel that it names.
fn place_channels(
    channels: &mut Vec<(String, Option<Since>)>,
    positions: &[Cow<'_, str>],
) -> Result<(), &'static str> {
    let mut seen = HashSet::new();
    channels.retain(|(name, _)| seen.insert(name.clone()));
    // With a single channel, the position needs no name.
    if let ([(_, since)], [value]) = (&mut channels[..], positions)
        && !value.contains('@')
    {
        *since = Some(plain_since(value)?);
        return Ok(());
    }
    let mut places: HashMap<&str, &mut Option<Since>> =
        channels.iter_mut().map(|(name, since)| (name.as_str(), since)).collect();
    for value in positions {
        // A name may contain an @; a position does not.
        let (name, position) = value.rsplit_once('@').ok_or(match places.len() {
            1 => "since is given more than once for a channel",
            _ => "with several channels since must be: channel@epoch:offset",
        })?;
        let since = places.get_mut(name).ok_or("since names a channel that is not in channels")?;
        if since.replace(plain_since(position)?).is_some() {
            return Err("since is given more than once for a channel");
        }
    }
    Ok(())
}

/// Parses `epoch:offset`.
fn plain_since(value: &str) -> Result<Since, &'static str> {
    let position = value.split_once(':').and_then(|(epoch, offset)| {
        Some(Since { epoch: SinceEpoch::from_text(epoch), offset: offset.parse().ok()? })
    });
    position.ok_or("since must be: epoch:offset, or channel@epoch:offset")
}

/// Parses a number of publications.
fn plain_last(value: &str) -> Result<usize, &'static str> {
    let number = value.parse().ok().filter(|number| *number <= RECOVERY_PUBLICATIONS_MAX);
    const { assert!(RECOVERY_PUBLICATIONS_MAX == 300, "the error text contains this number") };
    number.ok_or("last must be a number from 0 to 300")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;

    #[test]
    fn a_target_is_a_path_or_a_whole_address() {
        let target = |authority, path, query| Some(Target { authority, path, query });
        let cases = [
            ("/ws?a=b?c", target(None, "/ws", "a=b?c")),
            ("/", target(None, "/", "")),
            ("//ws", target(None, "//ws", "")),
            ("http://h:1/ws?q", target(Some("h:1"), "/ws", "q")),
            ("WS://h?q", target(Some("h"), "", "q")),
            ("http:///ws", None),
            ("ftp://h/ws", None),
            ("*", None),
            ("h:80", None),
            ("/ws#part", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Target::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_plain_query_names_channels_and_more() {
        let placed = |channels: &[(&str, Option<Since>)]| PlainRequest {
            channels: channels.iter().map(|&(name, since)| (name.to_owned(), since)).collect(),
            ..PlainRequest::default()
        };
        let plain = |channels: &[&str]| {
            placed(&channels.iter().map(|&name| (name, None)).collect::<Vec<_>>())
        };
        let since = |epoch, offset| Some(Since { epoch, offset });
        let exactly = |epoch, offset| since(SinceEpoch::Exactly(Epoch::new(epoch)), offset);
        let cases = [
            ("channels=a", plain(&["a"])),
            ("channels=a,b&channels=c&x=y&&", plain(&["a", "b", "c"])),
            ("channels=a,b,a&channels=b", plain(&["a", "b"])),
            ("channels=a%2Cb", plain(&["a", "b"])),
            ("channels=%C3%BC+%2b", plain(&["ü +"])),
            ("channels=a&envelope=json", PlainRequest { envelope: true, ..plain(&["a"]) }),
            (
                "heartbeat=json&channels=a&envelope=json",
                PlainRequest { envelope: true, heartbeat: true, ..plain(&["a"]) },
            ),
            ("channels=a&last=300", PlainRequest { last: 300, ..plain(&["a"]) }),
            ("publish=a", PlainRequest { publish: Some("a".into()), ..plain(&[]) }),
            ("channels=&publish=a", PlainRequest { publish: Some("a".into()), ..plain(&[]) }),
            ("channels=a&since=ff:7", placed(&[("a", exactly(0xFF, 7))])),
            ("since=ff:7&channels=a,a", placed(&[("a", exactly(0xFF, 7))])),
            ("channels=a&since=a%40ff:7", placed(&[("a", exactly(0xFF, 7))])),
            ("channels=a&since=%3A0", placed(&[("a", since(SinceEpoch::Any, 0))])),
            ("channels=a&since=_:0", placed(&[("a", since(SinceEpoch::Unknown, 0))])),
            (
                "since=b@1:2&channels=a,b,c@d&since=c@d@3:4",
                placed(&[("a", None), ("b", exactly(1, 2)), ("c@d", exactly(3, 4))]),
            ),
            ("channels=x:y@1:2&since=x:y@1:2@3:4", placed(&[("x:y@1:2", exactly(3, 4))])),
        ];
        for (query, expected) in cases {
            assert_eq!(plain_request(query), Ok(expected), "{query}");
        }
    }

    #[test]
    fn a_plain_query_that_makes_no_sense_is_refused() {
        let many = format!("channels={}", vec!["a"; CONNECTION_CHANNELS_MAX + 1].join(","));
        let cases = [
            "",
            "channels=",
            "channels=a,,b",
            "channels=a,",
            "publish=",
            "publish=a&publish=b",
            "channels=a&envelope=xml",
            "channels=a&envelope=json&heartbeat=1",
            "channels=a&heartbeat=json",
            "channels=a,b&since=1:1",
            "publish=a&since=1:1",
            "channels=a&since=1",
            "channels=a&since=1:x",
            "channels=a&since=1:-1",
            "channels=a&since=1:99999999999999999999",
            "channels=a&since=1:1&since=1:1",
            "channels=a&since=a@1:1&since=a@1:2",
            "channels=a&since=a@1:1&since=1:1",
            "channels=a&since=b@1:1",
            "channels=a,b&since=a@1:1&since=1:1",
            "channels=a,b&since=a@",
            "channels=a,b&since=@1:1",
            "channels=a&last=301",
            "channels=a&last=-1",
            "channels=a&last=",
            "channels=a&last=1&last=1",
            "channels=%",
            "channels=%4",
            "channels=%zz",
            "channels=%ff",
            &many,
        ];
        for query in cases {
            assert!(plain_request(query).is_err(), "{query}");
        }
    }
}
