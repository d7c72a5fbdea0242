//! The JSON messages to Centrifugo clients. Any other field or message is an error.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply<'a> {
    #[serde(default)]
    pub id: u32,
    #[serde(borrow)]
    pub connect: Option<Connect<'a>>,
    #[serde(borrow)]
    pub subscribe: Option<Subscribe<'a>>,
    pub unsubscribe: Option<Empty>,
    pub publish: Option<Empty>,
    #[serde(borrow)]
    pub history: Option<History<'a>>,
    #[serde(borrow)]
    pub error: Option<Error<'a>>,
    #[serde(borrow)]
    pub push: Option<Push<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect<'a> {
    pub client: &'a str,
    pub version: &'a str,
    #[serde(default)]
    pub ping: u32,
    #[serde(default)]
    pub pong: bool,
    #[serde(default, borrow)]
    pub subs: BTreeMap<&'a str, Subscribe<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscribe<'a> {
    #[serde(default)]
    pub recoverable: bool,
    #[serde(default)]
    pub positioned: bool,
    #[serde(default)]
    pub epoch: &'a str,
    #[serde(default)]
    pub offset: u64,
    #[serde(default, borrow)]
    pub publications: Vec<Publication<'a>>,
    #[serde(default)]
    pub recovered: bool,
    #[serde(default)]
    pub was_recovering: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History<'a> {
    #[serde(borrow)]
    pub publications: Vec<Publication<'a>>,
    pub epoch: &'a str,
    pub offset: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publication<'a> {
    #[serde(borrow)]
    pub data: &'a RawValue,
    #[serde(default)]
    pub offset: u64,
    pub epoch: Option<&'a str>,
    #[serde(borrow)]
    pub info: Option<Info<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Info<'a> {
    pub user: &'a str,
    pub client: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Error<'a> {
    pub code: u32,
    pub message: &'a str,
    #[serde(default)]
    pub temporary: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Push<'a> {
    pub channel: &'a str,
    #[serde(borrow, rename = "pub")]
    pub publication: Option<Publication<'a>>,
    #[serde(borrow)]
    pub unsubscribe: Option<Unsubscribe<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsubscribe<'a> {
    pub code: u32,
    pub reason: &'a str,
}

/// The envelope of plain WebSocket.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope<'a> {
    pub channel: &'a str,
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
    #[serde(default)]
    pub offset: u64,
    #[serde(default)]
    pub epoch: &'a str,
    pub gap: Option<Gap>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    pub after: u64,
    pub next: u64,
}
