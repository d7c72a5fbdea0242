//! The header lines of a request, and the checks of single ones.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use httparse::Header;

use crate::handshake::respond::{refuse, refuse_with};
use crate::handshake::{Response, Rules};
use crate::reason::Refusal;

/// The header lines of a request.
pub(super) struct Headers<'h, 'b>(pub(super) &'h [Header<'b>]);

impl<'b> Headers<'_, 'b> {
    /// Returns the trimmed values of all lines with this name.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value.trim_ascii())
    }

    /// Returns the value of the only line with this name. `None` if it is not text, or not the only
    /// one.
    fn only(&self, name: &str) -> Option<&'b str> {
        let mut values = self.values(name);
        let value = values.next().and_then(|value| std::str::from_utf8(value).ok());
        if values.next().is_none() { value } else { None }
    }

    /// Returns the elements of a comma-separated list, which may be spread over several lines (RFC
    /// 9110 §5.3).
    pub(super) fn tokens(&self, name: &str) -> impl Iterator<Item = &'b str> {
        self.values(name)
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .map(str::trim_ascii)
            .filter(|token| !token.is_empty())
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.tokens(name).any(|listed| listed.eq_ignore_ascii_case(token))
    }

    /// Returns the host. RFC 6455 §4.2.1 item 2 requires one. RFC 9112 §3.2: a server MUST respond
    /// with 400 if it is missing, repeated or invalid.
    pub(super) fn host(&self) -> Result<&'b str, Response> {
        let is_host_byte =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%:[]".contains(&byte);
        self.only("Host")
            .filter(|host| !host.is_empty() && host.bytes().all(is_host_byte))
            .ok_or_else(|| refuse(Refusal::BadHost))
    }

    /// Refuses a body, because it would be taken for frames.
    pub(super) fn check_no_body(&self) -> Result<(), Response> {
        let has_length = self.values("Content-Length").any(|value| value != b"0");
        if has_length || self.values("Transfer-Encoding").next().is_some() {
            return Err(refuse(Refusal::Body));
        }
        Ok(())
    }

    pub(super) fn check_upgrade(&self) -> Result<(), Response> {
        // RFC 6455 §4.2.1 items 3 and 4: Upgrade includes "websocket", Connection "Upgrade",
        // both without regard to case.
        if !self.has_token("Upgrade", "websocket") || !self.has_token("Connection", "Upgrade") {
            return Err(refuse(Refusal::NoUpgrade));
        }
        // RFC 6455 §4.2.1 item 6 and §4.2.2 /version/: 13, or a response that names it.
        if self.only("Sec-WebSocket-Version") != Some("13") {
            return Err(refuse(Refusal::BadVersion));
        }
        Ok(())
    }

    /// Returns the key. RFC 6455 §4.2.1 item 5: base64 of 16 bytes; §11.3.1: MUST NOT appear more
    /// than once.
    pub(super) fn key(&self) -> Result<&'b str, Response> {
        let is_key = |key: &&str| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16);
        self.only("Sec-WebSocket-Key").filter(is_key).ok_or_else(|| refuse(Refusal::BadKey))
    }

    /// Returns the first subprotocol that the client offers. Browsers fail a connection if they
    /// offer some and the server chooses none. RFC 6455 §4.1 item 10: each is a token.
    pub(super) fn first_subprotocol(&self) -> Option<&'b str> {
        let is_token_byte =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        self.tokens("Sec-WebSocket-Protocol").find(|token| token.bytes().all(is_token_byte))
    }

    /// Checks the origin. RFC 6455 §4.2.2 item 4 /origin/: 403 if the server does not accept it.
    /// Clients that are not browsers send no origin, and could forge any.
    pub(super) fn check_origin(&self, host: &str, rules: &Rules) -> Result<(), Response> {
        if self.values("Origin").next().is_none() {
            // Browsers send an origin with every upgrade, so something on the way has removed it.
            let is_cross_site = self.has_token("Sec-Fetch-Site", "cross-site");
            return if is_cross_site { Err(refuse(Refusal::CrossSite)) } else { Ok(()) };
        }
        let origin = self.only("Origin").ok_or_else(|| refuse(Refusal::BadOrigin))?;
        if rules.origins.admits(origin, host) {
            return Ok(());
        }
        Err(refuse_with(Refusal::ForeignOrigin, &rules.origins.refusal(origin)))
    }
}
