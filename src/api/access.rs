//! Access to the API: keys, and restrictions for browsers.

use axum::extract::Query;
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use subtle::{Choice, ConstantTimeEq};

use crate::limits::API_KEY_BYTES_MAX;
use crate::origins::Origins;
use crate::settings::Settings;

/// A key in a buffer of fixed size, so that a comparison takes the same time for every guess.
struct Key {
    bytes: [u8; API_KEY_BYTES_MAX],
    length: u64,
}

impl Key {
    /// Returns the key `text`, or `None` if it is too long to be a key.
    fn new(text: &[u8]) -> Option<Key> {
        let mut bytes = [0; API_KEY_BYTES_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Key { bytes, length: text.len() as u64 })
    }

    fn equals(&self, other: &Key) -> Choice {
        self.bytes.ct_eq(&other.bytes) & self.length.ct_eq(&other.length)
    }
}

/// The rule that admits requests to the API.
pub(super) struct Access {
    keys: Vec<Key>,
    /// Whether requests from this host need no key. Only true if there are no keys.
    open: bool,
}

impl Access {
    /// Admits requests with one of the keys in the settings. With `--dev` and no keys, admits
    /// everything except foreign web pages.
    pub(super) fn new(settings: &Settings) -> Access {
        let keys = settings.api.keys.iter();
        let keys: Vec<Key> = keys.filter_map(|key| Key::new(key.as_bytes())).collect();
        Access { open: settings.dev && keys.is_empty(), keys }
    }

    /// Checks whether a request with this head may use the API.
    ///
    /// # Errors
    /// 401 without a valid key. 403 if no key is needed but the request comes from a foreign web
    /// page.
    pub(super) fn admit(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), StatusCode> {
        if self.open {
            return if is_foreign_page(headers) { Err(StatusCode::FORBIDDEN) } else { Ok(()) };
        }
        let presented = presented_key(headers, uri).and_then(|key| Key::new(key.as_bytes()));
        let Some(presented) = presented else { return Err(StatusCode::UNAUTHORIZED) };
        // Compare all keys, because an early exit would leak which key was nearly right.
        let none = Choice::from(0);
        let matched = self.keys.iter().fold(none, |found, key| found | key.equals(&presented));
        if bool::from(matched) { Ok(()) } else { Err(StatusCode::UNAUTHORIZED) }
    }
}

/// Returns the key of a request, from the first of three places that has one.
fn presented_key(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct KeyQuery {
        api_key: String,
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(key) = text("x-api-key") {
        return Some(key.to_owned());
    }
    if let Some(value) = text(header::AUTHORIZATION.as_str()) {
        let (scheme, key) = value.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("apikey").then(|| key.trim().to_owned());
    }
    Query::<KeyQuery>::try_from_uri(uri).ok().map(|Query(query)| query.api_key)
}

/// Whether the request comes from a web page that this listener does not serve.
///
/// Browsers send `Origin` with every POST. With DNS rebinding it equals `Host`, but then the router
/// has already refused that host.
fn is_foreign_page(headers: &HeaderMap) -> bool {
    // The value of the only line with this name.
    let text = |name| {
        let mut values = headers.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    };
    if !headers.contains_key(header::ORIGIN) {
        return text(SEC_FETCH_SITE).is_some_and(|site| site.eq_ignore_ascii_case("cross-site"));
    }
    match (text(header::ORIGIN), text(header::HOST)) {
        (Some(origin), Some(host)) => !Origins::default().admits(origin, host),
        _ => true,
    }
}

/// Header in which browsers say whether a page of another site sends the request.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use super::*;

    /// A name and a value.
    type Line<'a> = (&'static str, &'a str);

    fn head(lines: &[Line<'_>]) -> HeaderMap {
        let line = |(name, value): &Line<'_>| {
            (name.parse().expect("a header name"), value.parse().expect("a header value"))
        };
        lines.iter().map(line).collect()
    }

    /// Access with `--dev`.
    fn dev(keys: &[&str]) -> Access {
        let mut settings = Settings { dev: true, ..Settings::default() };
        settings.api.keys = keys.iter().map(|key| (*key).to_owned()).collect();
        Access::new(&settings)
    }

    #[test]
    fn a_key_is_taken_from_three_places() {
        let access = dev(&["old", "new key"]);
        let long = "x".repeat(API_KEY_BYTES_MAX + 1);
        let table: &[(&[Line<'_>], &str, bool)] = &[
            (&[("x-api-key", "old")], "/api/info", true),
            (&[("authorization", "apikey old")], "/api/info", true),
            (&[("authorization", "ApiKey old")], "/api/info", true),
            (&[], "/api/info?api_key=new%20key", true),
            (&[("x-api-key", "old")], "/api/info?api_key=wrong", true),
            (&[], "/api/info", false),
            (&[("x-api-key", "")], "/api/info", false),
            (&[("x-api-key", "ol")], "/api/info", false),
            (&[("x-api-key", "oldd")], "/api/info", false),
            (&[("x-api-key", &long)], "/api/info", false),
            (&[("authorization", "Bearer old")], "/api/info", false),
            (&[("authorization", "old")], "/api/info", false),
        ];
        for (lines, uri, admitted) in table {
            let uri = uri.parse().expect("an URI");
            assert_eq!(access.admit(&head(lines), &uri).is_ok(), *admitted, "{lines:?} {uri}");
        }
    }

    #[test]
    fn without_a_key_the_api_is_closed_unless_it_was_opened() {
        let uri = "/api/info".parse().expect("an URI");
        let none = HeaderMap::new();
        let closed = Access::new(&Settings::default());
        assert_eq!(closed.admit(&none, &uri), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(dev(&[]).admit(&none, &uri), Ok(()));
    }

    #[test]
    fn an_open_api_refuses_foreign_web_pages() {
        let access = dev(&[]);
        let uri = "/api/publish".parse().expect("an URI");
        let table = [
            ("http://127.0.0.1:9000", "127.0.0.1:9000", true),
            ("http://localhost:9000", "localhost:9000", true),
            ("http://[::1]:9000", "[::1]:9000", true),
            ("http://evil.example", "127.0.0.1:9000", false),
            ("http://127.0.0.1:8080", "127.0.0.1:9000", false),
            ("null", "127.0.0.1:9000", false),
            ("http://localhost", "localhost:80", true),
        ];
        for (origin, host, admitted) in table {
            let headers = head(&[("origin", origin), ("host", host)]);
            assert_eq!(access.admit(&headers, &uri).is_ok(), admitted, "{origin} {host}");
        }
        let other_site = head(&[("sec-fetch-site", "cross-site"), ("host", "127.0.0.1:9000")]);
        assert!(access.admit(&other_site, &uri).is_err());
        let own = ("origin", "http://127.0.0.1:9000");
        let mut twice = head(&[own, ("host", "127.0.0.1:9000")]);
        assert!(access.admit(&twice, &uri).is_ok());
        twice.append("origin", "http://127.0.0.1:9000".parse().expect("a header value"));
        assert!(access.admit(&twice, &uri).is_err());
        let no_host = head(&[("origin", "http://127.0.0.1:9000")]);
        assert!(access.admit(&no_host, &uri).is_err());
    }
}
