//! Parsers for addresses, and for values that are one item or a list.

use core::net::SocketAddr;

use serde::de::{Deserialize, Deserializer, Error as _};

use crate::units::text;

/// Deserializes an address with its port.
pub(super) fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    parse_address(&text(from, "an address such as \"127.0.0.1:8000\"")?).map_err(D::Error::custom)
}

/// Deserializes one address or a list of addresses.
pub(super) fn addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<SocketAddr>, D::Error> {
    let texts = one_or_more(from)?;
    texts.iter().map(|text| parse_address(text).map_err(D::Error::custom)).collect()
}

/// Deserializes one string or a list of strings.
pub(super) fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged, expecting = "expected a string or a list of strings")]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    Ok(match OneOrMore::deserialize(from)? {
        OneOrMore::One(one) => vec![one],
        OneOrMore::More(more) => more,
    })
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "{text:?} is not an address: use IP and port, such as \"127.0.0.1:8000\", \
             \"0.0.0.0:8000\" (all IPv4) or \"[::]:8000\" (IPv6)"
        )
    })
}
