//! The subset of Centrifugo's JSON protocol that a subscriber needs, and the payload.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The payload of a publication: its number, and padding.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Payload {
    pub(crate) pid: u32,
    /// The channels of a broadcast, which has the same data for all. The publication to the first
    /// channel has the number `pid`, and so on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) of: Vec<u16>,
    #[serde(default, skip_deserializing)]
    pub(crate) pad: String,
}

impl Payload {
    /// Returns the number of the publication with this data in `channel`.
    pub(crate) fn pid_in(&self, channel: u16) -> u32 {
        let at = self.of.iter().position(|one| *one == channel);
        at.map_or(self.pid, |at| self.pid + at as u32)
    }
}

/// One line from the server: a reply if it has an `id`, otherwise a push or a ping.
#[derive(Debug, Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(default)]
    pub(crate) id: u32,
    pub(crate) connect: Option<Connect>,
    #[serde(borrow)]
    pub(crate) subscribe: Option<Subscribe<'a>>,
    #[serde(borrow)]
    pub(crate) error: Option<Error<'a>>,
    #[serde(borrow)]
    pub(crate) push: Option<Push<'a>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Connect {
    /// Seconds between pings; absent or 0 without pings.
    #[serde(default)]
    pub(crate) ping: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Subscribe<'a> {
    #[serde(default, borrow)]
    pub(crate) epoch: Cow<'a, str>,
    #[serde(default)]
    pub(crate) offset: u32,
    #[serde(default)]
    pub(crate) recovered: bool,
    #[serde(default)]
    pub(crate) publications: Vec<Publication>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Error<'a> {
    pub(crate) code: u32,
    #[serde(borrow)]
    pub(crate) message: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Push<'a> {
    #[serde(default, borrow)]
    pub(crate) channel: Cow<'a, str>,
    #[serde(rename = "pub")]
    pub(crate) publication: Option<Publication>,
    pub(crate) unsubscribe: Option<Unsubscribe>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Publication {
    #[serde(default)]
    pub(crate) offset: u32,
    pub(crate) data: Payload,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Unsubscribe {
    pub(crate) code: u16,
}

/// Returns the command that subscribes. With a position, it requests recovery.
pub(crate) fn subscribe(id: u32, channel: &str, since: Option<(&str, u32)>) -> String {
    let recover = since.map_or(String::new(), |(epoch, offset)| {
        format!(",\"recover\":true,\"epoch\":\"{epoch}\",\"offset\":{offset}")
    });
    format!("{{\"id\":{id},\"subscribe\":{{\"channel\":\"{channel}\"{recover}}}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart() {
        let read = |text| serde_json::from_str::<Line<'_>>(text).unwrap();
        assert!(read("{}").push.is_none());
        let line = r#"{"id":2,"subscribe":{"epoch":"e","offset":4,"recovered":true,
            "publications":[{"offset":5,"data":{"pid":9,"pad":"x"}}]}}"#;
        let subscribe = read(line).subscribe.unwrap();
        assert_eq!((&*subscribe.epoch, subscribe.offset, subscribe.recovered), ("e", 4, true));
        assert_eq!(subscribe.publications[0].data.pid, 9);
        let push = read(r#"{"push":{"channel":"c","unsubscribe":{"code":2500,"reason":"r"}}}"#);
        assert_eq!(push.push.unwrap().unsubscribe.unwrap().code, 2500);
        assert_eq!(read(r#"{"id":1,"error":{"code":100,"message":"m"}}"#).error.unwrap().code, 100);
    }

    #[test]
    fn a_broadcast_has_a_number_for_each_channel() {
        let read = |text| serde_json::from_str::<Payload>(text).unwrap();
        let many = read(r#"{"pid":7,"of":[3,9],"pad":"x"}"#);
        assert_eq!([3, 9].map(|channel| many.pid_in(channel)), [7, 8]);
        assert_eq!(read(r#"{"pid":7}"#).pid_in(9), 7);
    }

    #[test]
    fn commands_are_json() {
        let text = subscribe(3, "check:1", Some(("e", 7)));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["subscribe"]["offset"], 7);
        let plain = subscribe(3, "check:1", None);
        assert_eq!(plain, r#"{"id":3,"subscribe":{"channel":"check:1"}}"#);
    }
}
