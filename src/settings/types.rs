//! Parsers for addresses, networks and modes, and for values that are one item or a list.

use serde::de::{Deserialize, Deserializer, Error as _};

use super::listen::{ListenAddress, parse_mode};
use crate::proxies::Proxies;
use crate::units::text;

/// Deserializes an address to listen on.
pub(super) fn address<'de, D: Deserializer<'de>>(from: D) -> Result<ListenAddress, D::Error> {
    let text = text(from, "an address such as \"127.0.0.1:8000\"")?;
    ListenAddress::parse(&text).map_err(D::Error::custom)
}

/// Deserializes one address or a list of addresses.
pub(super) fn addresses<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<ListenAddress>, D::Error> {
    let texts = one_or_more(from)?;
    texts.iter().map(|text| ListenAddress::parse(text).map_err(D::Error::custom)).collect()
}

/// Deserializes one network or a list of networks.
pub(super) fn proxies<'de, D: Deserializer<'de>>(from: D) -> Result<Proxies, D::Error> {
    Proxies::parse(&one_or_more(from)?).map_err(D::Error::custom)
}

/// Deserializes the mode of a file.
pub(super) fn mode<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    parse_mode(&text(from, "a mode such as \"0660\"")?).map_err(D::Error::custom)
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
