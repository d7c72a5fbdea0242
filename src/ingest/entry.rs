//! One entry of a source: its fields, and the publications that it requests.
//!
//! An entry has a `channel` and a payload, which is `data` itself or the base64 in `b64data`. The
//! fields `tags`, `skip_history` and `idempotency_key` are optional. Instead, an entry may have a
//! `method` (`publish` or `broadcast`) and a `payload` with the parameters of that method in the
//! HTTP API. Other fields are ignored.

use std::collections::BTreeMap;

use crate::bus::record_fits;
use crate::channel::{
    ChannelName, DataType, HistoryUse, Namespaces, Payload, Publication, PublishCommand, Unfit,
    recovery_bytes,
};
use crate::ids::Moment;
use crate::limits::REDIS_NUMBER_MAX;
use crate::mesh::{Asker, Publish};
use crate::protocol::{PublishParams, boxed_key, boxed_tags, decode_base64, read_params};

/// Place of an entry in its source. Later entries have higher places. In a stream of Redis it is
/// the time in milliseconds, and a number among the entries of that millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct IngestId(pub u64, pub u64);

/// Fields of an entry with their values, in the order of the entry.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

impl IngestId {
    /// Parses `<milliseconds>-<number>`.
    pub fn parse(text: &str) -> Option<IngestId> {
        let (millis, number) = text.split_once('-')?;
        Some(IngestId(millis.parse().ok()?, number.parse().ok()?))
    }
}

impl std::fmt::Display for IngestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// Returns the channel of an entry, for the log. `None` if the entry names none.
pub fn channel(fields: &Fields) -> Option<String> {
    if let Some(channel) = value(fields, "channel") {
        return Some(String::from_utf8_lossy(channel).into_owned());
    }
    let params: PublishParams = read_params(value(fields, "payload")?).ok()?;
    let first = params.channels.into_iter().next();
    Some(params.channel).filter(|channel| !channel.is_empty()).or(first)
}

/// Returns a reason without the text that it quotes, because that may be a payload, which is never
/// logged.
pub fn unquoted(reason: &str) -> String {
    let quotes = ['"', '`'];
    match (reason.find(quotes), reason.rfind(quotes)) {
        (Some(first), Some(last)) if first < last => {
            format!("{}…{}", &reason[..=first], &reason[last..])
        }
        _ => reason.to_owned(),
    }
}

/// A request to publish the same data in one or more channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestRequest {
    /// Channels, each with the index of its payload.
    channels: Vec<(ChannelName, usize)>,
    /// One payload for each data type of the channels.
    payloads: Vec<(DataType, Box<[u8]>)>,
    tags: Box<[(Box<str>, Box<str>)]>,
    history: HistoryUse,
    idempotency_key: Option<Box<str>>,
}

impl IngestRequest {
    /// Parses the fields of the entry `id`. All publications are checked before any is published,
    /// so a refused entry can be corrected and added again.
    ///
    /// # Errors
    /// The reason why the entry can't be published.
    pub fn parse(
        id: IngestId,
        fields: &Fields,
        namespaces: &Namespaces,
        bytes_max: usize,
    ) -> Result<IngestRequest, String> {
        // Scripts in Redis can't distinguish larger numbers, so a new entry could look like a
        // repeat.
        if id.0.max(id.1) > REDIS_NUMBER_MAX {
            return Err(format!("an id above {REDIS_NUMBER_MAX}: let Redis give ids (XADD … *)"));
        }
        let bytes: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > bytes_max {
            return Err(format!("{bytes} bytes, where api.body_bytes_max allows {bytes_max}"));
        }
        let asked = match value(fields, "method") {
            None => IngestRequest::from_fields(fields, namespaces),
            Some(method) => IngestRequest::from_method(method, fields, namespaces),
        };
        asked.map_err(|unfit| unfit.to_string())
    }

    fn from_method(
        method: &[u8],
        fields: &Fields,
        namespaces: &Namespaces,
    ) -> Result<IngestRequest, Unfit> {
        let params =
            value(fields, "payload").ok_or_else(|| Unfit::bad_request("method without payload"))?;
        let params: PublishParams = read_params(params).map_err(Unfit::bad_request)?;
        let channels = match method {
            b"publish" => std::slice::from_ref(&params.channel),
            b"broadcast" => &params.channels[..],
            other => {
                let name = String::from_utf8_lossy(other);
                let detail = format!("method {name:?}, where publish or broadcast is expected");
                return Err(Unfit::bad_request(detail));
            }
        };
        PublishCommand::check_count(channels.len())?;
        IngestRequest::new(channels, &params.command()?, namespaces)
    }

    fn from_fields(fields: &Fields, namespaces: &Namespaces) -> Result<IngestRequest, Unfit> {
        let history = match text(fields, "skip_history")? {
            "" | "0" | "false" => HistoryUse::Keep,
            "1" | "true" => HistoryUse::Skip,
            other => {
                let detail = format!("skip_history {other:?}, where true or false is expected");
                return Err(Unfit::bad_request(detail));
            }
        };
        let tags: BTreeMap<String, String> = match text(fields, "tags")? {
            "" => BTreeMap::new(),
            json => serde_json::from_str(json)
                .map_err(|error| Unfit::bad_request(format!("tags: {error}")))?,
        };
        let channel = text(fields, "channel")?.to_owned();
        let payload = match text(fields, "b64data")? {
            "" => value(fields, "data")
                .map(Box::from)
                .ok_or_else(|| Unfit::bad_request("data is missing"))?,
            b64data => decode_base64(b64data)?,
        };
        let command = PublishCommand {
            payload: Payload::Bytes(payload),
            tags: boxed_tags(&tags),
            history,
            idempotency_key: boxed_key(text(fields, "idempotency_key")?),
        };
        IngestRequest::new(std::slice::from_ref(&channel), &command, namespaces)
    }

    fn new(
        channels: &[String],
        command: &PublishCommand,
        namespaces: &Namespaces,
    ) -> Result<IngestRequest, Unfit> {
        command.check()?;
        let mut asked = IngestRequest {
            channels: Vec::with_capacity(channels.len()),
            payloads: Vec::new(),
            tags: command.tags.clone(),
            history: command.history,
            idempotency_key: command.idempotency_key.clone(),
        };
        // Bytes that each payload needs in a recovery.
        let mut lengths = Vec::new();
        for channel in channels {
            if channel.is_empty() {
                return Err(Unfit::bad_request("channel is missing"));
            }
            let unfit = |error| Unfit { error, detail: format!("{channel:?}") };
            let namespace = namespaces.resolve(channel).map_err(unfit)?;
            let data_type = namespace.data;
            let known = asked.payloads.iter().position(|(known, _)| *known == data_type);
            let number = known.unwrap_or(asked.payloads.len());
            if known.is_none() {
                asked.payloads.push((data_type, command.payload(data_type)?));
            }
            let (_, data) = &asked.payloads[number];
            if lengths.len() == number {
                lengths.push(recovery_bytes(data_type, data, &asked.tags));
            }
            command.check_recoverable(namespace, lengths[number])?;
            asked.channels.push((ChannelName::new(channel), number));
        }
        // Only tags can be too long for a record, and all publications share them, so one check is
        // enough.
        let publication = asked.publication(0, Moment::default());
        if record_fits(asked.channels[0].0.as_str(), &publication) {
            Ok(asked)
        } else {
            Err(Unfit::bad_request("tags of more than 65,535 bytes each, or as many"))
        }
    }

    /// Returns the number of publications, which is at least one.
    pub fn count(&self) -> usize {
        self.channels.len()
    }

    /// Returns one of the publications.
    pub fn publish(&self, number: usize, now: Moment, asker: Asker) -> Publish {
        Publish {
            channel: self.channels[number].0.clone(),
            publication: self.publication(number, now),
            history: self.history,
            idempotency_key: self.idempotency_key.clone(),
            asker,
        }
    }

    fn publication(&self, number: usize, accepted: Moment) -> Publication {
        Publication {
            data: self.payloads[self.channels[number].1].1.clone(),
            offset: 0,
            publisher: None,
            tags: self.tags.clone(),
            accepted,
        }
    }
}

/// Returns the value of the last field with this name.
fn value<'a>(fields: &'a Fields, name: &str) -> Option<&'a [u8]> {
    let mut named = fields.iter().rev().filter(|(known, _)| known == name.as_bytes());
    named.next().map(|(_, value)| &value[..])
}

/// Returns the value as text, which is empty if there is no such field.
fn text<'a>(fields: &'a Fields, name: &str) -> Result<&'a str, Unfit> {
    std::str::from_utf8(value(fields, name).unwrap_or_default())
        .map_err(|_| Unfit::bad_request(format!("{name} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Namespace;
    use crate::limits::RECOVERY_BYTES_MAX;
    use crate::settings::Settings;

    /// Namespaces with all data types.
    fn namespaces() -> Namespaces {
        let base = Settings::default().channel.namespaces;
        let base = base.plain();
        let named = |name: &str, data| Namespace { name: name.to_owned(), data, ..base.clone() };
        let all = vec![
            named("", DataType::Json),
            named("chat", DataType::Json),
            named("text", DataType::Text),
            named("raw", DataType::Binary),
        ];
        Namespaces::new(all, 255)
    }

    type Pairs<'a> = &'a [(&'a str, &'a [u8])];

    fn fields(pairs: Pairs<'_>) -> Fields {
        pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect()
    }

    fn parse(pairs: Pairs<'_>) -> Result<Vec<(String, Vec<u8>)>, String> {
        let asked = IngestRequest::parse(IngestId(1, 0), &fields(pairs), &namespaces(), 1000)?;
        let one = |number| {
            let publish = asked.publish(number, Moment::default(), Asker::Nobody);
            (publish.channel.as_str().to_owned(), publish.publication.data.to_vec())
        };
        Ok((0..asked.count()).map(one).collect())
    }

    #[test]
    fn an_entry_names_a_channel_and_a_payload_or_a_method_and_its_parameters() {
        let one = |channel: &str, data: &[u8]| Ok(vec![(channel.to_owned(), data.to_vec())]);
        let broadcast = br#"{"channels":["a","text:b","chat:c"],"data":"x"}"#;
        assert_eq!(parse(&[("channel", b"a"), ("data", b" {\"b\":\n1}")]), one("a", b"{\"b\":1}"));
        assert_eq!(parse(&[("data", b"\xff\x00"), ("channel", b"raw:a")]), one("raw:a", b"\xff\0"));
        assert_eq!(
            parse(&[("channel", b"text:a"), ("data", b"no JSON")]),
            one("text:a", b"no JSON")
        );
        assert_eq!(parse(&[("channel", b"raw:a"), ("b64data", b"AAE=")]), one("raw:a", b"\0\x01"));
        let request = br#"{"channel":"a","data":[1]}"#;
        assert_eq!(parse(&[("method", b"publish"), ("payload", request)]), one("a", b"[1]"));
        let all = parse(&[("method", b"broadcast"), ("payload", broadcast)]);
        let expected = [("a", &b"\"x\""[..]), ("text:b", b"x"), ("chat:c", b"\"x\"")];
        let expected = expected.map(|(name, data)| (name.to_owned(), data.to_vec()));
        assert_eq!(all, Ok(expected.to_vec()));
    }

    #[test]
    fn options_reach_the_publication() {
        let all = fields(&[
            ("channel", b"a"),
            ("data", b"1"),
            ("tags", br#"{"k":"v"}"#),
            ("skip_history", b"true"),
            ("idempotency_key", b"key"),
            ("trace", b"ignored"),
        ]);
        let asked =
            IngestRequest::parse(IngestId(1, 0), &all, &namespaces(), 1000).expect("it is right");
        let publish = asked.publish(0, Moment::from_nanos(7), Asker::Nobody);
        assert_eq!(publish.publication.tags[..], [(Box::from("k"), Box::from("v"))]);
        assert_eq!(publish.publication.accepted, Moment::from_nanos(7));
        assert_eq!(publish.history, HistoryUse::Skip);
        assert_eq!(publish.idempotency_key.as_deref(), Some("key"));
    }

    #[test]
    fn what_can_not_be_published_says_why() {
        let long = vec![b'1'; 1000];
        let cases: [(Pairs<'_>, &str); 15] = [
            (&[], "data is missing"),
            (&[("channel", b"a")], "data is missing"),
            (&[("data", b"1")], "channel is missing"),
            (&[("channel", b"a"), ("data", b"{")], "the payload is not JSON"),
            (&[("channel", b"b:a"), ("data", b"1")], "unknown channel: \"b:a\""),
            (&[("channel", b"\xff"), ("data", b"1")], "channel is not UTF-8"),
            (&[("channel", b"text:a"), ("data", b"\xff")], "not UTF-8 text"),
            (&[("channel", b"a"), ("b64data", b"?")], "b64data"),
            (&[("channel", b"a"), ("data", b"1"), ("tags", b"[]")], "tags"),
            (&[("channel", b"a"), ("data", b"1"), ("skip_history", b"no")], "skip_history \"no\""),
            (&[("channel", b"a"), ("data", &long)], "1012 bytes, where api.body_bytes_max allows"),
            (&[("method", b"publish")], "without payload"),
            (&[("method", b"publish"), ("payload", b"{\"channel\":")], "EOF"),
            (&[("method", b"history"), ("payload", b"{}")], "method \"history\""),
            (&[("method", b"broadcast"), ("payload", b"{\"data\":1}")], "0 channels"),
        ];
        for (pairs, expected) in cases {
            let error = parse(pairs).expect_err("it can't be published");
            assert!(error.contains(expected), "{error:?} has no {expected:?}");
        }
        let mixed = br#"{"channels":["a","b:c"],"data":1}"#;
        let error = parse(&[("method", b"broadcast"), ("payload", mixed)]);
        assert_eq!(error, Err("unknown channel: \"b:c\"".to_owned()), "all channels or none");
        let good = fields(&[("channel", b"a"), ("data", b"1")]);
        assert!(
            IngestRequest::parse(IngestId(1, REDIS_NUMBER_MAX + 1), &good, &namespaces(), 9000)
                .is_err()
        );
    }

    #[test]
    fn what_no_recovery_could_return_is_refused_where_it_would_be_kept() {
        let defaults = Settings::default().channel.namespaces;
        let plain = defaults.plain();
        let (history_size, history_ttl) = (10, std::time::Duration::from_secs(60));
        let kept = Namespace { history_size, history_ttl, ..plain.clone() };
        let live = Namespace { name: "live".to_owned(), ..plain.clone() };
        let namespaces = Namespaces::new(vec![kept, live], 255);
        let long = vec![b'1'; RECOVERY_BYTES_MAX];
        let parse = |pairs: Pairs<'_>| {
            IngestRequest::parse(IngestId(1, 0), &fields(pairs), &namespaces, 2 << 20).map(drop)
        };
        let error = parse(&[("channel", b"a"), ("data", &long)]).expect_err("too long");
        for words in ["limit exceeded", "up to 786432 bytes", "this one has 786"] {
            assert!(error.contains(words), "{error:?} has no {words:?}");
        }
        assert_eq!(parse(&[("channel", b"live:a"), ("data", &long)]), Ok(()));
        let skipped = [("channel", &b"a"[..]), ("data", &long), ("skip_history", b"true")];
        assert_eq!(parse(&skipped), Ok(()));
        let fits = &long[..RECOVERY_BYTES_MAX - 1000];
        assert_eq!(parse(&[("channel", b"a"), ("data", fits)]), Ok(()));
    }

    #[test]
    fn a_log_line_names_the_channel_and_quotes_no_payload() {
        let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let table = [
            (vec![field("data", "1"), field("channel", "news")], Some("news")),
            (vec![field("method", "publish"), field("payload", r#"{"channel":"a"}"#)], Some("a")),
            (
                vec![field("method", "broadcast"), field("payload", r#"{"channels":["b","c"]}"#)],
                Some("b"),
            ),
            (vec![field("data", "1")], None),
        ];
        for (fields, expected) in table {
            assert_eq!(channel(&fields).as_deref(), expected);
        }
        let reason = r#"bad request: invalid type: string "secret \" here", expected a map"#;
        assert_eq!(unquoted(reason), "bad request: invalid type: string \"…\", expected a map");
        assert_eq!(unquoted("data is missing"), "data is missing");
    }
}
