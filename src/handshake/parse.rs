//! Parses bytes into an upgrade or a response. RFC 6455 §4.2.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use httparse::{EMPTY_HEADER, Header, Request};

use crate::handshake::query::{Target, pairs, plain_request};
use crate::handshake::respond::{Acceptance, Status, respond};
use crate::handshake::{Endpoint, Progress, Response, Rules, Upgrade, origin};
use crate::limits::{HANDSHAKE_BYTES_MAX, HANDSHAKE_HEADERS_MAX};
use crate::proxies::begins_with_header;

/// Parses the request in `bytes`, which is everything that the connection has received. A request
/// is refused as soon as it is certain that this server won't accept it.
pub fn read(bytes: &[u8], rules: &Rules) -> Progress {
    let mut headers = [EMPTY_HEADER; HANDSHAKE_HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    let parsed = request.parse(bytes);
    let result = match parsed {
        Ok(httparse::Status::Complete(consumed)) if consumed > HANDSHAKE_BYTES_MAX => {
            Err(respond(Status::HeaderFieldsTooLarge, TOO_LARGE))
        }
        Ok(httparse::Status::Complete(consumed)) => {
            return read_request(&request, consumed, rules).unwrap_or_else(Progress::Respond);
        }
        Ok(httparse::Status::Partial) => match read_route(&request, rules) {
            Ok(_) if bytes.len() >= HANDSHAKE_BYTES_MAX => {
                Err(respond(Status::HeaderFieldsTooLarge, TOO_LARGE))
            }
            Ok(_) => return Progress::Incomplete,
            Err(refusal) => Err(refusal),
        },
        Err(error) => Err(read_refuse(error, bytes)),
    };
    match result {
        Ok(upgrade) => Progress::Upgrade(upgrade),
        Err(response) => Progress::Respond(response),
    }
}

const TOO_LARGE: &str = "the request head is too long or has too many headers";

/// The response to bytes that are not HTTP.
fn read_refuse(error: httparse::Error, bytes: &[u8]) -> Response {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let first_line = lines.find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
    let names_http = first_line.windows(6).any(|window| window == b" HTTP/");
    match error {
        httparse::Error::TooManyHeaders => respond(Status::HeaderFieldsTooLarge, TOO_LARGE),
        httparse::Error::Version if names_http => {
            respond(Status::VersionNotSupported, "HTTP/1.1 is required")
        }
        _ if begins_with_header(bytes) => {
            respond(Status::BadRequest, "a PROXY header is accepted only from server.proxies, once")
        }
        _ => respond(Status::BadRequest, "this is not an HTTP/1.1 request"),
    }
}

/// The target of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Centrifugo,
    Plain,
    Echo,
    Health,
}

/// A request line that this server accepts.
#[derive(Clone, Copy, Debug)]
struct Line<'t> {
    target: Target<'t>,
    route: Route,
}

/// Checks the request line. `None` while it is incomplete.
fn read_route<'t>(request: &Request<'_, 't>, rules: &Rules) -> Result<Option<Line<'t>>, Response> {
    let (Some(method), Some(path), Some(version)) = (request.method, request.path, request.version)
    else {
        return Ok(None);
    };
    // RFC 6455 §4.2.1 item 1: a GET of HTTP/1.1 or higher.
    let target = Target::parse(path)
        .ok_or_else(|| respond(Status::BadRequest, "the request target is malformed"))?;
    let route = match target.path {
        "/connection/websocket" => Route::Centrifugo,
        "/ws" => Route::Plain,
        "/echo" if rules.echo => Route::Echo,
        "/health" => Route::Health,
        _ => return Err(respond(Status::NotFound, "unknown path")),
    };
    // Health checks of some load balancers still use HTTP/1.0.
    if version == 0 && route != Route::Health {
        return Err(respond(Status::VersionNotSupported, "HTTP/1.1 is required"));
    }
    if method != "GET" && (method != "HEAD" || route != Route::Health) {
        return Err(respond(Status::MethodNotAllowed, "only GET is allowed"));
    }
    Ok(Some(Line { target, route }))
}

/// Handles a complete request head.
fn read_request(
    request: &Request<'_, '_>,
    consumed: usize,
    rules: &Rules,
) -> Result<Progress, Response> {
    let Some(Line { target, route }) = read_route(request, rules)? else {
        return Err(respond(Status::BadRequest, "the request line is malformed"));
    };
    let headers = Headers(request.headers);
    let host = match (headers.host(), target.authority) {
        // RFC 9112 §3.2.2: the server MUST ignore Host where the target names a host.
        (Ok(_), Some(authority)) => authority,
        (Ok(host), None) => host,
        // RFC 9112 §3.2 asks it of HTTP/1.1 only.
        (Err(_), _) if request.version == Some(0) => "",
        (Err(refusal), _) => return Err(refusal),
    };
    headers.check_no_body()?;
    if route == Route::Health {
        return Ok(Progress::Health { head_only: request.method == Some("HEAD") });
    }
    headers.check_upgrade()?;
    let key = headers.key()?;
    let (endpoint, subprotocol) = read_endpoint(route, target.query, &headers)?;
    headers.check_origin(host, rules)?;
    let acceptance = Acceptance::new(key, subprotocol);
    Ok(Progress::Upgrade(Upgrade { endpoint, acceptance, consumed }))
}

/// Returns the endpoint and the subprotocol to confirm. RFC 6455 §4.2.2 /subprotocol/: only one
/// that the client offered, or none.
fn read_endpoint(
    route: Route,
    query: &str,
    headers: &Headers<'_, '_>,
) -> Result<(Endpoint, Option<&'static str>), Response> {
    match route {
        Route::Centrifugo => Ok(read_centrifugo(query, headers)),
        Route::Plain => Ok((Endpoint::Plain(plain_request(query)), None)),
        Route::Echo | Route::Health => Ok((Endpoint::Echo, None)),
    }
}

/// Parses the query of Centrifugo's endpoint. Source: centrifugal/centrifuge
/// `handler_websocket.go`. An invalid query is ignored, because SDKs would retry a refused
/// handshake forever.
fn read_centrifugo(query: &str, headers: &Headers<'_, '_>) -> (Endpoint, Option<&'static str>) {
    let (mut protobuf, mut frame_pings) = (false, false);
    for (name, value) in pairs(query).flatten() {
        match (&*name, &*value) {
            ("cf_protocol" | "format", "protobuf") => protobuf = true,
            ("cf_ws_frame_ping_pong", "true") => frame_pings = true,
            _ => {}
        }
    }
    // Older Python SDKs send an empty header, which offers nothing.
    let offers = |name| headers.tokens("Sec-WebSocket-Protocol").any(|token| token == name);
    let subprotocol =
        ["centrifuge-json", "centrifuge-protobuf"].into_iter().find(|&name| offers(name));
    protobuf |= subprotocol == Some("centrifuge-protobuf");
    (Endpoint::Centrifugo { frame_pings, protobuf }, subprotocol)
}

/// The header lines of a request.
struct Headers<'h, 'b>(&'h [Header<'b>]);

impl<'b> Headers<'_, 'b> {
    /// Returns the trimmed values of all lines with this name.
    fn values(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
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
    fn tokens(&self, name: &str) -> impl Iterator<Item = &'b str> {
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
    fn host(&self) -> Result<&'b str, Response> {
        let is_host_byte =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%:[]".contains(&byte);
        self.only("Host")
            .filter(|host| !host.is_empty() && host.bytes().all(is_host_byte))
            .ok_or_else(|| respond(Status::BadRequest, "exactly one valid Host header is required"))
    }

    /// Refuses a body, because it would be taken for frames.
    fn check_no_body(&self) -> Result<(), Response> {
        let has_length = self.values("Content-Length").any(|value| value != b"0");
        if has_length || self.values("Transfer-Encoding").next().is_some() {
            return Err(respond(Status::BadRequest, "a request body is not allowed"));
        }
        Ok(())
    }

    fn check_upgrade(&self) -> Result<(), Response> {
        // RFC 6455 §4.2.1 items 3 and 4: Upgrade includes "websocket", Connection "Upgrade",
        // both without regard to case.
        if !self.has_token("Upgrade", "websocket") || !self.has_token("Connection", "Upgrade") {
            return Err(respond(Status::UpgradeRequired, "this path requires a WebSocket upgrade"));
        }
        // RFC 6455 §4.2.1 item 6 and §4.2.2 /version/: 13, or a response that names it.
        if self.only("Sec-WebSocket-Version") != Some("13") {
            return Err(respond(Status::UpgradeRequired, "Sec-WebSocket-Version must be 13"));
        }
        Ok(())
    }

    /// Returns the key. RFC 6455 §4.2.1 item 5: base64 of 16 bytes; §11.3.1: MUST NOT appear more
    /// than once.
    fn key(&self) -> Result<&'b str, Response> {
        let is_key = |key: &&str| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16);
        self.only("Sec-WebSocket-Key").filter(is_key).ok_or_else(|| {
            respond(
                Status::BadRequest,
                "exactly one Sec-WebSocket-Key of 16 bytes in base64 is required",
            )
        })
    }

    /// Checks the origin. RFC 6455 §4.2.2 item 4 /origin/: 403 if the server does not accept it.
    /// Clients that are not browsers send no origin, and could forge any.
    fn check_origin(&self, host: &str, rules: &Rules) -> Result<(), Response> {
        if self.values("Origin").next().is_none() {
            return Ok(());
        }
        match self.only("Origin") {
            Some(origin) if origin::is_allowed(origin, host, &rules.allowed_origins) => Ok(()),
            _ => Err(respond(Status::Forbidden, "this Origin is not allowed")),
        }
    }
}

#[cfg(test)]
mod tests;
