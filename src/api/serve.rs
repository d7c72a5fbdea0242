//! The connections of the API listener. Everything that a peer could stretch has a limit, so a slow
//! or greedy client affects only its own connection.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, TcpListener as StdTcpListener};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::state::Api;
use super::{counted, http, router};
use crate::ids::Moment;
use crate::limits::{
    ACCEPT_PAUSE_MAX, ACCEPT_PAUSE_MIN, API_CONNECTIONS_MAX, API_EXCHANGE_TIMEOUT,
    API_HEAD_BYTES_MAX, API_HEADERS_MAX, API_OPEN_PAUSE, API_REQUEST_TIMEOUT, API_WRONG_KEY_PAUSE,
    API_WRONG_KEY_PAUSE_MAX,
};
use crate::metrics::ApiCounters;
use crate::repeats::WRONG_KEYS;

/// The listener of the API.
#[derive(Debug)]
pub enum ApiListener {
    /// It has an IP address and a port.
    Tcp(StdTcpListener),
    /// It has a path. It does not block.
    Unix(StdUnixListener),
}

/// The same, in the runtime.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn new(listener: ApiListener) -> io::Result<Listener> {
        Ok(match listener {
            ApiListener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Listener::Tcp(TcpListener::from_std(listener)?)
            }
            ApiListener::Unix(listener) => Listener::Unix(UnixListener::from_std(listener)?),
        })
    }

    /// Accepts one connection, and serves it.
    async fn accept(&self, peers: &Arc<Peers>, router: &Router) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Without this option small responses wait for the peer's acknowledgement. Failure
                // is harmless.
                drop(stream.set_nodelay(true));
                peers.admit(stream, Some(address.ip()), router);
            }
            Listener::Unix(listener) => peers.admit(listener.accept().await?.0, None, router),
        }
        Ok(())
    }
}

/// Serves the API on `listener` until the future is dropped. Connections end with the runtime.
///
/// # Errors
/// The listener can't be registered. A failed accept is not an error: it is retried with growing
/// pauses, because descriptors may become free.
pub async fn serve(listener: ApiListener, api: Arc<Api>) -> io::Result<()> {
    let listener = Listener::new(listener)?;
    let peers = Arc::new(Peers {
        open: Mutex::default(),
        next: AtomicU64::new(0),
        wrong_keys: WrongKeys::new(api.status().clock()),
        counters: Arc::clone(&api.counters),
        keep_alive: api.keep_alive,
    });
    let router = router::router(api);
    let mut pause = ACCEPT_PAUSE_MIN;
    loop {
        match listener.accept(&peers, &router).await {
            Ok(()) => pause = ACCEPT_PAUSE_MIN,
            Err(error) => {
                tracing::warn!(%error, ?pause, "could not accept an API connection; retrying");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

/// The connections of the API listener.
struct Peers {
    open: Mutex<HashMap<u64, Peer>>,
    next: AtomicU64,
    wrong_keys: WrongKeys,
    counters: Arc<ApiCounters>,
    /// Time for which each stays open without requests.
    keep_alive: Duration,
}

struct Peer {
    state: Arc<PeerState>,
    task: AbortHandle,
}

/// What a connection has shown so far. If there are too many connections, those with the lowest
/// standing are closed first, so that a flood of new ones does not close those of known callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Standing {
    /// It has had no response yet, or only refusals.
    New,
    /// It has used a path that needs no key.
    Served,
    /// It has called a method, with a key if one is needed.
    Caller,
}

/// The state of a connection that others can see.
struct PeerState {
    started: Instant,
    /// The address of the peer. `None` on a Unix socket.
    address: Option<IpAddr>,
    /// The standing, as a number.
    standing: AtomicU8,
    /// Milliseconds from `started` to the beginning of the last request.
    request_millis: AtomicU64,
    /// Milliseconds from `started` to the earliest time of the next request without a key.
    open_millis: AtomicU64,
    /// Whether a request is being processed. False while its response is only being sent.
    answering: AtomicBool,
    /// The header that tells clients how long the connection stays open, so that they do not send a
    /// request at the moment of its end. RFC 2068 §19.7.1.1.
    keep_alive: HeaderValue,
}

impl PeerState {
    fn new(address: Option<IpAddr>, keep_alive: Duration) -> Arc<PeerState> {
        let timeout = format!("timeout={}", keep_alive.as_secs());
        Arc::new(PeerState {
            started: Instant::now(),
            address,
            standing: AtomicU8::new(Standing::New as u8),
            request_millis: AtomicU64::new(0),
            open_millis: AtomicU64::new(0),
            answering: AtomicBool::new(false),
            keep_alive: HeaderValue::try_from(timeout)
                .unwrap_or_else(|_| HeaderValue::from_static("timeout=0")),
        })
    }

    fn begin_request(&self) {
        let millis = self.started.elapsed().as_millis() as u64;
        self.request_millis.store(millis, Ordering::Relaxed);
        self.answering.store(true, Ordering::Relaxed);
    }

    /// Waits until a request without a key is due, if the last one was just before it.
    async fn pace(&self) {
        let pause = API_OPEN_PAUSE.as_millis() as u64;
        let now = self.started.elapsed().as_millis() as u64;
        let due = self.open_millis.load(Ordering::Relaxed).max(now);
        self.open_millis.store(due + pause, Ordering::Relaxed);
        if due > now {
            tokio::time::sleep(Duration::from_millis(due - now)).await;
        }
    }

    fn raise(&self, standing: Standing) {
        self.standing.fetch_max(standing as u8, Ordering::Relaxed);
    }

    fn last_request(&self) -> Instant {
        self.started + Duration::from_millis(self.request_millis.load(Ordering::Relaxed))
    }
}

impl Peers {
    /// Serves one more connection. If there are too many, one of the lowest standing is closed: the
    /// one with the oldest last request. If all are busy, the new one is closed.
    fn admit(self: &Arc<Peers>, stream: impl Stream, address: Option<IpAddr>, router: &Router) {
        let mut open = self.open();
        if open.len() >= API_CONNECTIONS_MAX {
            let idle =
                open.iter().filter(|(_, peer)| !peer.state.answering.load(Ordering::Relaxed));
            let order = |peer: &Peer| {
                (peer.state.standing.load(Ordering::Relaxed), peer.state.last_request())
            };
            let Some((&key, _)) = idle.min_by_key(|(_, peer)| order(peer)) else { return };
            if let Some(peer) = open.remove(&key) {
                peer.task.abort();
            }
        }
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let state = PeerState::new(address, self.keep_alive);
        let leave = Leave { peers: Arc::clone(self), key };
        let connection = connection(stream, router.clone(), Arc::clone(&state), leave);
        // The runtime has one thread, so the task can't end before it is in the list.
        let task = tokio::spawn(connection).abort_handle();
        open.insert(key, Peer { state, task });
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Peer>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Slows requests without a valid key, and logs them.
struct WrongKeys {
    now: fn() -> Moment,
    /// The current second, and the number of such requests in it.
    recent: Mutex<(u64, u32)>,
}

impl WrongKeys {
    fn new(now: fn() -> Moment) -> WrongKeys {
        WrongKeys { now, recent: Mutex::default() }
    }

    /// Counts such a request, and waits. A connection that waits may be closed for another one.
    async fn pause(&self, address: Option<IpAddr>) {
        let now = (self.now)();
        if let Some(left_out) = WRONG_KEYS.admit(now) {
            let left_out = (left_out > 0).then_some(left_out);
            let address = address.map(tracing::field::display);
            tracing::warn!(address, left_out, "a request to the API had no valid key");
        }
        let count = {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            let second = now.nanos() / 1_000_000_000;
            if recent.0 != second {
                *recent = (second, 0);
            }
            recent.1 = recent.1.saturating_add(1);
            recent.1
        };
        let pause = API_WRONG_KEY_PAUSE.saturating_mul(count).min(API_WRONG_KEY_PAUSE_MAX);
        tokio::time::sleep(pause).await;
    }
}

/// Removes a connection from the list when its task ends for any reason.
struct Leave {
    peers: Arc<Peers>,
    key: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.peers.open().remove(&self.key);
    }
}

/// The socket of a connection.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// Serves one connection until it closes, has had no request for `api.keep_alive`, or its peer does
/// not read a response.
async fn connection(stream: impl Stream, router: Router, state: Arc<PeerState>, leave: Leave) {
    let peers = Arc::clone(&leave.peers);
    let keep_alive = peers.keep_alive;
    let _leave = leave;
    let service_state = Arc::clone(&state);
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, state) = (router.clone(), Arc::clone(&service_state));
        let peers = Arc::clone(&peers);
        async move {
            let is_call = request.uri().path().starts_with("/api");
            let name = counted::name(request.uri().path());
            if !is_call {
                state.pace().await;
            }
            let response = answer(router, &state, request).await;
            peers.counters.count(name, response.status().as_u16());
            match response.status() {
                StatusCode::UNAUTHORIZED => peers.wrong_keys.pause(state.address).await,
                status if status.is_client_error() => {}
                _ => state.raise(if is_call { Standing::Caller } else { Standing::Served }),
            }
            // Requests that were sent ahead must not keep this thread from other connections.
            tokio::task::yield_now().await;
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        // It runs from the end of a response to the end of the next request head.
        .header_read_timeout(keep_alive)
        .max_headers(API_HEADERS_MAX)
        .max_buf_size(API_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let lifetime = API_EXCHANGE_TIMEOUT + keep_alive;
    loop {
        let deadline = state.last_request() + lifetime;
        tokio::select! {
            // Errors of a peer's connection concern only that peer.
            _ended = &mut serving => return,
            () = tokio::time::sleep_until(deadline) => {
                if state.last_request() + lifetime <= Instant::now() {
                    return;
                }
            }
        }
    }
}

/// Header of [`PeerState::keep_alive`].
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Returns the response to one request, in bounded time.
async fn answer(router: Router, state: &PeerState, request: Request<Incoming>) -> Response<Body> {
    state.begin_request();
    let routed = router.oneshot(request.map(Body::new));
    let mut response = match tokio::time::timeout(API_REQUEST_TIMEOUT, routed).await {
        Ok(Ok(response)) => response,
        Err(_) => {
            let line = format!("the request was not finished within {API_REQUEST_TIMEOUT:?}");
            http::text(StatusCode::SERVICE_UNAVAILABLE, &line)
        }
    };
    response.headers_mut().insert(KEEP_ALIVE, state.keep_alive.clone());
    state.answering.store(false, Ordering::Relaxed);
    response
}
