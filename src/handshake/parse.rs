//! Parses bytes into an upgrade or a response. RFC 6455 §4.2.

use httparse::{EMPTY_HEADER, Request};

use crate::handshake::headers::Headers;
use crate::handshake::query::{pairs, plain_request};
use crate::handshake::respond::{Acceptance, refuse, refuse_with};
use crate::handshake::route::{Line, Route};
use crate::handshake::{Endpoint, Progress, Response, Rules, Upgrade};
use crate::limits::HANDSHAKE_HEADERS_MAX;
use crate::proxies::begins_with_header;
use crate::reason::Refusal;

/// Parses the request in `bytes`, which is everything that the connection has received. A request
/// is refused as soon as it is certain that this server won't accept it.
pub fn read(bytes: &[u8], rules: &Rules) -> Progress {
    let mut headers = [EMPTY_HEADER; HANDSHAKE_HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    let most = rules.head_bytes_max;
    let result = match request.parse(bytes) {
        Ok(httparse::Status::Complete(consumed)) if consumed > most => {
            Err(refuse_long(&format!("of {consumed} bytes"), most))
        }
        Ok(httparse::Status::Complete(consumed)) => read_request(&request, consumed, rules),
        Ok(httparse::Status::Partial) => match Line::read(&request, rules) {
            Ok(_) if bytes.len() >= most => {
                Err(refuse_long(&format!("of more than {} bytes", bytes.len()), most))
            }
            Ok(_) => Ok(Progress::Incomplete),
            Err(refusal) => Err(refusal),
        },
        Err(error) => Err(read_refuse(error, bytes)),
    };
    result.unwrap_or_else(Progress::Respond)
}

/// Returns the origin that a request names, for the log. The request may be incomplete.
pub fn named_origin(bytes: &[u8]) -> Option<String> {
    let mut headers = [EMPTY_HEADER; HANDSHAKE_HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    request.parse(bytes).ok()?;
    let origin = Headers(request.headers).values("Origin").next()?;
    Some(String::from_utf8_lossy(origin).into_owned())
}

/// The response to a request head whose size, in words, is above the limit.
fn refuse_long(size: &str, most: usize) -> Response {
    let text = format!(
        "a request head {size} is longer than client.handshake_bytes_max = {most} bytes; cookies \
         are often the largest part"
    );
    refuse_with(Refusal::HeadTooLong, &text)
}

/// The response to bytes that are not HTTP.
fn read_refuse(error: httparse::Error, bytes: &[u8]) -> Response {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let first_line = lines.find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
    let names_http = first_line.windows(6).any(|window| window == b" HTTP/");
    match error {
        httparse::Error::TooManyHeaders => refuse(Refusal::TooManyHeaders),
        httparse::Error::Version if names_http => refuse(Refusal::HttpVersion),
        _ if begins_with_header(bytes) => refuse(Refusal::ForeignProxy),
        _ => refuse(Refusal::NotHttp),
    }
}

/// Handles a complete request head.
fn read_request(
    request: &Request<'_, '_>,
    consumed: usize,
    rules: &Rules,
) -> Result<Progress, Response> {
    let Some(Line { target, route }) = Line::read(request, rules)? else {
        return Err(refuse(Refusal::NotHttp));
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
    let foreign = || refuse_with(Refusal::ForeignHost, &rules.hosts.refusal(host));
    if let Route::Health(probe) = route {
        let admitted = rules.hosts.admits_monitor(host);
        return if admitted { Ok(Progress::Health(probe)) } else { Err(foreign()) };
    }
    if !rules.hosts.admits(host) {
        return Err(foreign());
    }
    headers.check_upgrade()?;
    let key = headers.key()?;
    headers.check_origin(host, rules)?;
    let (endpoint, subprotocol) = read_endpoint(route, target.query, &headers);
    let acceptance = Acceptance::new(key, subprotocol);
    Ok(Progress::Upgrade(Upgrade { endpoint, acceptance, consumed }))
}

/// Returns the endpoint and the subprotocol to confirm. RFC 6455 §4.2.2 /subprotocol/: only one
/// that the client offered, or none.
fn read_endpoint<'b>(
    route: Route,
    query: &str,
    headers: &Headers<'_, 'b>,
) -> (Endpoint, Option<&'b str>) {
    match route {
        Route::Centrifugo => read_centrifugo(query, headers),
        Route::Plain => (Endpoint::Plain(plain_request(query)), headers.first_subprotocol()),
        Route::Echo | Route::Health(_) => (Endpoint::Echo, headers.first_subprotocol()),
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

#[cfg(test)]
mod tests;
