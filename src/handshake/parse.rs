//! From bytes to an upgrade or an answer. RFC 6455 §4.2.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use httparse::{EMPTY_HEADER, Header, Request};

use crate::handshake::query::{Target, pairs, plain_request};
use crate::handshake::respond::{Acceptance, Status, respond};
use crate::handshake::{Endpoint, Progress, Response, Rules, Upgrade, origin};
use crate::limits::{HANDSHAKE_BYTES_MAX, HANDSHAKE_HEADERS_MAX};

/// Reads the request at the front of `bytes`, all that the connection has received so far. What
/// can't become a request that this server accepts is answered as soon as that is known.
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

/// The answer to what is not HTTP.
fn read_refuse(error: httparse::Error, bytes: &[u8]) -> Response {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let first_line = lines.find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
    let names_http = first_line.windows(6).any(|window| window == b" HTTP/");
    match error {
        httparse::Error::TooManyHeaders => respond(Status::HeaderFieldsTooLarge, TOO_LARGE),
        httparse::Error::Version if names_http => {
            respond(Status::VersionNotSupported, "HTTP/1.1 is needed")
        }
        _ => respond(Status::BadRequest, "this is not an HTTP/1.1 request"),
    }
}

/// What a path leads to.
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

/// Judges as much of the request line as has come; nothing while it is cut.
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
        _ => return Err(respond(Status::NotFound, "nothing is served at this path")),
    };
    // Health checks of load balancers are the last to speak HTTP/1.0.
    if version == 0 && route != Route::Health {
        return Err(respond(Status::VersionNotSupported, "HTTP/1.1 is needed"));
    }
    if method != "GET" && (method != "HEAD" || route != Route::Health) {
        return Err(respond(Status::MethodNotAllowed, "only GET is served here"));
    }
    Ok(Some(Line { target, route }))
}

/// Answers a complete request head.
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

/// What the client wants to speak, and the subprotocol to confirm. RFC 6455 §4.2.2 /subprotocol/:
/// only one that the client offered, or none.
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

/// Source: centrifugal/centrifuge `handler_websocket.go`. A query that can't be decoded is no
/// reason to refuse: SDKs would try again for ever.
fn read_centrifugo(query: &str, headers: &Headers<'_, '_>) -> (Endpoint, Option<&'static str>) {
    let (mut protobuf, mut frame_pings) = (false, false);
    for (name, value) in pairs(query).flatten() {
        match (&*name, &*value) {
            ("cf_protocol" | "format", "protobuf") => protobuf = true,
            ("cf_ws_frame_ping_pong", "true") => frame_pings = true,
            _ => {}
        }
    }
    // An empty header, which older Python SDKs send, offers nothing.
    let offers = |name| headers.tokens("Sec-WebSocket-Protocol").any(|token| token == name);
    let subprotocol =
        ["centrifuge-json", "centrifuge-protobuf"].into_iter().find(|&name| offers(name));
    protobuf |= subprotocol == Some("centrifuge-protobuf");
    (Endpoint::Centrifugo { frame_pings, protobuf }, subprotocol)
}

/// The header lines of a request.
struct Headers<'h, 'b>(&'h [Header<'b>]);

impl<'b> Headers<'_, 'b> {
    /// Values of every line of this name, trimmed.
    fn values(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value.trim_ascii())
    }

    /// The value of the only line of this name; nothing if it is not text, or not the only one.
    fn only(&self, name: &str) -> Option<&'b str> {
        let mut values = self.values(name);
        let value = values.next().and_then(|value| std::str::from_utf8(value).ok());
        if values.next().is_none() { value } else { None }
    }

    /// Elements of a comma-separated list that may be spread over several lines: RFC 9110 §5.3.
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

    /// RFC 6455 §4.2.1 item 2: a Host. RFC 9112 §3.2: a server MUST answer 400 if it is missing,
    /// repeated or invalid.
    fn host(&self) -> Result<&'b str, Response> {
        let is_host_byte =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%:[]".contains(&byte);
        self.only("Host")
            .filter(|host| !host.is_empty() && host.bytes().all(is_host_byte))
            .ok_or_else(|| respond(Status::BadRequest, "exactly one valid Host header is needed"))
    }

    /// A body would be taken for frames.
    fn check_no_body(&self) -> Result<(), Response> {
        let has_length = self.values("Content-Length").any(|value| value != b"0");
        if has_length || self.values("Transfer-Encoding").next().is_some() {
            return Err(respond(Status::BadRequest, "a request body is not accepted here"));
        }
        Ok(())
    }

    fn check_upgrade(&self) -> Result<(), Response> {
        // RFC 6455 §4.2.1 items 3 and 4: Upgrade includes "websocket", Connection "Upgrade",
        // both without regard to case.
        if !self.has_token("Upgrade", "websocket") || !self.has_token("Connection", "Upgrade") {
            return Err(respond(Status::UpgradeRequired, "this path speaks WebSocket"));
        }
        // RFC 6455 §4.2.1 item 6 and §4.2.2 /version/: 13, or an answer that names it.
        if self.only("Sec-WebSocket-Version") != Some("13") {
            return Err(respond(Status::UpgradeRequired, "Sec-WebSocket-Version must be 13"));
        }
        Ok(())
    }

    /// RFC 6455 §4.2.1 item 5: base64 of 16 bytes; §11.3.1: MUST NOT appear more than once.
    fn key(&self) -> Result<&'b str, Response> {
        let is_key = |key: &&str| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16);
        self.only("Sec-WebSocket-Key").filter(is_key).ok_or_else(|| {
            respond(Status::BadRequest, "Sec-WebSocket-Key must be 16 bytes in base64, once")
        })
    }

    /// RFC 6455 §4.2.2 item 4 /origin/: 403 for what the server does not want. Who is not a
    /// browser sends no Origin, and could send any.
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
