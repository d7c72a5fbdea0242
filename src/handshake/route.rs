//! The paths of the client port, and the methods that each accepts.

use httparse::Request;

use crate::handshake::query::Target;
use crate::handshake::respond::{method_not_allowed, refuse};
use crate::handshake::{Probe, Response, Rules};
use crate::reason::Refusal;

/// The target of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Centrifugo,
    Plain,
    Echo,
    Health(Probe),
}

/// A request line that this server accepts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'t> {
    pub(super) target: Target<'t>,
    pub(super) route: Route,
}

impl<'t> Line<'t> {
    /// Checks the request line. `None` while it is incomplete.
    pub(super) fn read(
        request: &Request<'_, 't>,
        rules: &Rules,
    ) -> Result<Option<Line<'t>>, Response> {
        let (Some(method), Some(text), Some(version)) =
            (request.method, request.path, request.version)
        else {
            return Ok(None);
        };
        let target = match text {
            // RFC 9112 §3.2.4: the whole server, only for OPTIONS.
            "*" if method == "OPTIONS" => Target { authority: None, path: "/", query: "" },
            text => Target::parse(text).ok_or_else(|| refuse(Refusal::BadTarget))?,
        };
        let route = match path_of(target.path, rules) {
            "/connection/websocket" => Route::Centrifugo,
            "/ws" => Route::Plain,
            "/echo" if rules.echo => Route::Echo,
            "/health" => Route::Health(probe(method)?),
            // The check of a load balancer that was not told a path, such as HAProxy's
            // `option httpchk`.
            "" if method == "OPTIONS" => Route::Health(Probe::Options),
            _ => return Err(refuse(Refusal::UnknownPath)),
        };
        if let Route::Health(_) = route {
            return Ok(Some(Line { target, route }));
        }
        // RFC 6455 §4.2.1 item 1: a GET of HTTP/1.1 or higher. Only health checks may be older,
        // because some load balancers still use HTTP/1.0.
        if version == 0 {
            return Err(refuse(Refusal::HttpVersion));
        }
        if method != "GET" {
            return Err(method_not_allowed("GET"));
        }
        Ok(Some(Line { target, route }))
    }
}

/// Returns the path without the prefix of the settings, and without a slash at its end. Proxies and
/// frameworks add one. It is empty for `/`.
fn path_of<'t>(path: &'t str, rules: &Rules) -> &'t str {
    let inner = path.strip_prefix(rules.path_prefix.as_str());
    let path = inner.filter(|inner| inner.starts_with('/')).unwrap_or(path);
    path.strip_suffix('/').unwrap_or(path)
}

fn probe(method: &str) -> Result<Probe, Response> {
    match method {
        "GET" => Ok(Probe::Get),
        "HEAD" => Ok(Probe::Head),
        "OPTIONS" => Ok(Probe::Options),
        _ => Err(method_not_allowed("GET, HEAD, OPTIONS")),
    }
}
