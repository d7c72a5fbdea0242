//! The connections of the API listener. Everything that a peer could stretch has a limit, so a slow
//! or greedy client affects only its own connection.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
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
use super::{http, router};
use crate::limits::{
    ACCEPT_PAUSE_MAX, ACCEPT_PAUSE_MIN, API_CONNECTION_TIMEOUT, API_CONNECTIONS_MAX,
    API_HEAD_BYTES_MAX, API_HEADER_TIMEOUT, API_HEADERS_MAX, API_REQUEST_TIMEOUT,
};

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
                let (stream, _) = listener.accept().await?;
                // Without this option small responses wait for the peer's acknowledgement. Failure
                // is harmless.
                drop(stream.set_nodelay(true));
                peers.admit(stream, router);
            }
            Listener::Unix(listener) => peers.admit(listener.accept().await?.0, router),
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
    let router = router::router(api);
    let peers = Arc::new(Peers::default());
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
#[derive(Default)]
struct Peers {
    open: Mutex<HashMap<u64, Peer>>,
    next: AtomicU64,
}

struct Peer {
    state: Arc<PeerState>,
    task: AbortHandle,
}

/// The state of a connection that others can see.
struct PeerState {
    started: Instant,
    /// Milliseconds from `started` to the beginning of the last request.
    request_millis: AtomicU64,
    /// Whether a request is being processed. False while its response is only being sent.
    answering: AtomicBool,
}

impl PeerState {
    fn new() -> Arc<PeerState> {
        Arc::new(PeerState {
            started: Instant::now(),
            request_millis: AtomicU64::new(0),
            answering: AtomicBool::new(false),
        })
    }

    fn begin_request(&self) {
        let millis = self.started.elapsed().as_millis() as u64;
        self.request_millis.store(millis, Ordering::Relaxed);
        self.answering.store(true, Ordering::Relaxed);
    }

    fn last_request(&self) -> Instant {
        self.started + Duration::from_millis(self.request_millis.load(Ordering::Relaxed))
    }
}

impl Peers {
    /// Serves one more connection. If there are too many, the one with the oldest last request is
    /// closed. If all are busy, the new one is closed.
    fn admit(self: &Arc<Peers>, stream: impl Stream, router: &Router) {
        let mut open = self.open();
        if open.len() >= API_CONNECTIONS_MAX {
            let idle =
                open.iter().filter(|(_, peer)| !peer.state.answering.load(Ordering::Relaxed));
            let Some((&key, _)) = idle.min_by_key(|(_, peer)| peer.state.last_request()) else {
                return;
            };
            if let Some(peer) = open.remove(&key) {
                peer.task.abort();
            }
        }
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let state = PeerState::new();
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

/// Serves one connection until it closes or its last request is too old.
async fn connection(stream: impl Stream, router: Router, state: Arc<PeerState>, leave: Leave) {
    let _leave = leave;
    let service_state = Arc::clone(&state);
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, state) = (router.clone(), Arc::clone(&service_state));
        async move { Ok::<_, std::convert::Infallible>(answer(router, &state, request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(API_HEADER_TIMEOUT)
        .max_headers(API_HEADERS_MAX)
        .max_buf_size(API_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    loop {
        let deadline = state.last_request() + API_CONNECTION_TIMEOUT;
        tokio::select! {
            // Errors of a peer's connection concern only that peer.
            _ended = &mut serving => return,
            () = tokio::time::sleep_until(deadline) => {
                if state.last_request() + API_CONNECTION_TIMEOUT <= Instant::now() {
                    return;
                }
            }
        }
    }
}

/// Returns the response to one request, in bounded time.
async fn answer(router: Router, state: &PeerState, request: Request<Incoming>) -> Response<Body> {
    state.begin_request();
    let routed = router.oneshot(request.map(Body::new));
    let response = match tokio::time::timeout(API_REQUEST_TIMEOUT, routed).await {
        Ok(Ok(response)) => response,
        Err(_) => {
            let line = format!("the request was not finished within {API_REQUEST_TIMEOUT:?}");
            http::text(StatusCode::SERVICE_UNAVAILABLE, &line)
        }
    };
    state.answering.store(false, Ordering::Relaxed);
    response
}
