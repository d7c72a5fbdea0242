//! Tests of HTTP: statuses, keys, limits, and misbehaving peers.

use std::net::TcpListener;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::limits::{ANSWER_TIMEOUT, API_CONNECTIONS_MAX, API_PENDING_MAX, API_WRONG_KEY_PAUSE};
use crate::readiness::Phase;

/// Names and values of headers.
type Lines<'a> = &'a [(&'a str, &'a str)];

#[tokio::test]
async fn http_refusals_have_their_status() {
    let node = node_with(settings(), obedient);
    let publish = r#"{"channel":"chat:1","data":1}"#;
    let long = format!(r#"{{"channel":"chat:1","data":"{}"}}"#, "x".repeat(1 << 20));
    let key = [("x-api-key", "sesame")];
    let none: Lines<'_> = &[];
    let wrong = [("x-api-key", "Sesame")];
    let table: &[(&str, Lines<'_>, &str, u16)] = &[
        ("/api/publish", &key, publish, 200),
        ("/api/publish?api_key=sesame", none, publish, 200),
        ("/api/publish", none, publish, 401),
        ("/api/publish", &wrong, publish, 401),
        ("/api", none, publish, 401),
        ("/api/nothing", none, publish, 401),
        ("/api/publish", &key, "", 400),
        ("/api/publish", &key, "{", 400),
        ("/api/publish", &key, r#"{"channel":5}"#, 400),
        ("/api/batch", &key, "[]", 400),
        ("/api/nothing", &key, publish, 404),
        ("/elsewhere", &key, publish, 404),
        ("/api/publish", &key, &long, 413),
        ("/metrics", &key, "", 405),
    ];
    for (path, headers, body, expected) in table {
        let (status, text) = node.post_with(path, headers, body).await;
        assert_eq!(status, *expected, "{path} {headers:?}: {text}");
        assert!(status != 401 || text.is_empty(), "401 has no body");
    }
    assert_eq!(node.get("/api/publish").await.0, 405);
    assert_eq!(node.get("/api").await.0, 405);
    assert_eq!(node.get("/").await.0, 404, "no page without --dev");
}

#[tokio::test]
async fn with_dev_there_is_a_page_and_no_key_but_no_foreign_page() {
    let mut open = settings();
    (open.api.keys, open.dev) = (Vec::new(), true);
    let node = node_with(open, obedient);
    let publish = r#"{"channel":"chat:1","data":1}"#;
    assert_eq!(node.post_with("/api/publish", &[], publish).await.0, 200);
    let foreign = [("origin", "https://evil.example"), ("host", "127.0.0.1:9000")];
    assert_eq!(node.post_with("/api/publish", &foreign, publish).await.0, 403);
    let (status, page) = node.get("/").await;
    assert_eq!(status, 200);
    for id in ["channel", "subscribe", "message", "publish", "messages", "state", "numbers"] {
        assert!(page.contains(&format!("id=\"{id}\"")), "#{id}");
    }
    for link in ["http://", "https://", "//cdn", "@import", "src=\""] {
        assert!(!page.contains(link), "the page loads nothing from elsewhere: {link}");
    }
    let (_, at) = node.get("/dev/config.json").await;
    assert!(at.contains(r#""host":"127.0.0.1","port":8000"#), "{at}");
    assert!(node.get("/dev/numbers.json").await.1.contains(r#""deliveries":0"#));
}

#[tokio::test]
async fn an_idempotency_key_may_come_in_a_header() {
    let node = node_with(settings(), obedient);
    let headers = [("x-api-key", "sesame"), ("x-idempotency-key", "header")];
    let table = [
        (r#"{"channel":"chat:1","data":1}"#, "header"),
        (r#"{"channel":"chat:1","data":1,"idempotency_key":"body"}"#, "body"),
    ];
    for (body, expected) in table {
        node.post_with("/api/publish", &headers, body).await;
        let seen = node.seen();
        let [(_, ShardMail::Home(ToHome::Publish(publish)))] = &seen[..] else {
            panic!("{seen:?}")
        };
        assert_eq!(publish.idempotency_key.as_deref(), Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_does_not_answer_is_an_internal_error_and_leaves_nothing_behind() {
    let node = node_with(settings(), |_, _| None);
    let before = tokio::time::Instant::now();
    let (_, answer) = node.post("/api/publish", r#"{"channel":"c","data":1}"#).await;
    assert!(answer.starts_with(r#"{"error":{"code":100,"#), "{answer}");
    assert!(before.elapsed() >= ANSWER_TIMEOUT);
    let (_, answer) = node.post("/api/channels", "{}").await;
    assert!(answer.starts_with(r#"{"error":{"code":100,"#), "{answer}");
    assert_eq!(node.api.service.parts.courier.pending_count(), 0);
}

#[tokio::test]
async fn a_full_shard_is_503_alone_and_111_among_others() {
    let node = node_with(settings(), obedient);
    let send = |_| Err(Full);
    let redis = settings().redis;
    let courier = Courier::new(1, &redis, Box::new(|_| ShardId::new(0)), Box::new(send));
    let status = Arc::clone(&node.api.service.parts.status);
    let node_names = node.api.service.parts.node.clone();
    let parts = Parts { courier, status, identify: Box::new(|_| None), node: node_names };
    let api = Api::new(Arc::new(settings()), parts);
    let full = TestNode { router: router::router(Arc::clone(&api)), api, seen: node.seen };
    let (status, _) = full.post("/api/publish", r#"{"channel":"c","data":1}"#).await;
    assert_eq!(status, 503);
    let (status, answer) = full.post("/api/broadcast", r#"{"channels":["c"],"data":1}"#).await;
    assert!(status == 200 && answer.contains(r#"{"error":{"code":111,"#), "{answer}");
}

#[tokio::test]
async fn more_requests_than_may_wait_are_refused_and_those_that_give_up_are_forgotten() {
    let node = node_with(settings(), |_, _| None);
    let courier = &node.api.service.parts.courier;
    let channel = crate::channel::ChannelName::new("c");
    let ask = || courier.send(|ticket| courier.history_remove(channel.clone(), ticket));
    let waiting: Vec<_> = (0..API_PENDING_MAX).map(|_| ask().expect("there is room")).collect();
    assert!(matches!(ask(), Err(ApiError::Busy)));
    drop(waiting);
    assert_eq!(courier.pending_count(), 0);
    assert!(ask().is_ok());
}

#[tokio::test]
async fn ready_and_live_tell_the_nodes_state() {
    let node = node_with(settings(), obedient);
    let table = [
        (Phase::Starting, 503, "starting\n"),
        (Phase::Serving, 200, "serving\n"),
        (Phase::Full, 503, "full\n"),
        (Phase::Leaving, 503, "draining\n"),
        (Phase::Draining, 503, "draining\n"),
    ];
    for (phase, status, text) in table {
        node.api.service.parts.status.set_phase(phase);
        assert_eq!(node.get("/ready").await, (status, text.to_owned()));
    }
    node.api.service.parts.status.set_phase(Phase::Serving);
    node.api.service.parts.status.shards()[0].refused_busy_nanos.set(now().nanos());
    let (status, text) = node.get("/ready").await;
    assert!(status == 200 && text.starts_with("serving, busy: "), "{status} {text}");
    assert_eq!(node.get("/live").await.0, 503, "40 s without progress");
    for counters in node.api.service.parts.status.shards() {
        counters.alive_nanos.set(now().nanos() - 29_000_000_000);
    }
    assert_eq!(node.get("/live").await, (200, "live\n".to_owned()));
    node.api.service.parts.status.shards()[1].alive_nanos.set(1);
    assert_eq!(node.get("/live").await, (503, "no progress in shards [1]\n".to_owned()));
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let node = node_with(settings(), obedient);
    let (status, page) = node.get("/metrics").await;
    assert!(status == 200 && page.contains("# TYPE corecast_panics_total counter\n"), "{page}");
    let open = Request::get("/metrics").header("accept", "application/openmetrics-text");
    let (_, page) = node.send(open.body(Body::empty()).expect("a request")).await;
    assert!(page.contains("# TYPE corecast_panics counter\n") && page.ends_with("# EOF\n"));
}

/// Serves a node on its own port.
fn serve_node(node: &TestNode) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(serve(ApiListener::Tcp(listener), Arc::clone(&node.api)));
    address
}

/// Sends a request on a new connection. Returns the whole response.
async fn exchange(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it accepts");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut response = String::new();
    stream.read_to_string(&mut response).await.expect("it answers");
    response
}

const LIVE: &str = "GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn idle_and_slow_peers_do_not_keep_others_out() {
    let node = node_with(settings(), obedient);
    node.api.service.parts.status.set_phase(Phase::Serving);
    let address = serve_node(&node);
    let mut idle = Vec::new();
    for _ in 0..API_CONNECTIONS_MAX {
        idle.push(TcpStream::connect(address).await.expect("it accepts"));
    }
    let slow = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut scraper = TcpStream::connect(address).await.expect("it accepts");
    scraper.write_all(slow.as_bytes()).await.expect("it reads");
    let mut byte = [0];
    scraper.read_exact(&mut byte).await.expect("the slow one is served too");
    for _ in 0..20 {
        assert!(exchange(address, LIVE).await.starts_with("HTTP/1.1 200"));
    }
    let evicted = idle[0].read(&mut byte).await;
    assert!(!matches!(evicted, Ok(1..)), "the connection with the oldest request is closed");
}

/// Sends a call on an open connection. Returns the status of the response.
async fn call(stream: &mut TcpStream, key: &str) -> u16 {
    let request = format!(
        "POST /api/channels HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\
         Content-Length: 2\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut response = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).await.expect("it answers");
        assert!(count > 0, "the connection stays open");
        response.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&response);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase();
        let length = length.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        if length.and_then(|length| length.parse().ok()) == Some(body.len()) {
            return text[9..12].parse().expect("a status");
        }
    }
}

#[tokio::test]
async fn a_flood_of_new_connections_closes_none_of_a_caller() {
    let node = node_with(settings(), obedient);
    let address = serve_node(&node);
    let mut caller = TcpStream::connect(address).await.expect("it accepts");
    assert_eq!(call(&mut caller, "sesame").await, 200);
    let mut flood = Vec::new();
    for number in 0..API_CONNECTIONS_MAX + 100 {
        let mut stream = TcpStream::connect(address).await.expect("it accepts");
        if number % 100 == 0 {
            assert_eq!(call(&mut stream, "guess").await, 401, "which earns nothing");
        }
        flood.push(stream);
    }
    assert_eq!(call(&mut caller, "sesame").await, 200);
}

#[tokio::test]
async fn wrong_keys_are_slowed_and_counted() {
    let node = node_with(settings(), obedient);
    let address = serve_node(&node);
    let mut stream = TcpStream::connect(address).await.expect("it accepts");
    let before = std::time::Instant::now();
    for _ in 0..8 {
        assert_eq!(call(&mut stream, "guess").await, 401);
    }
    let pauses: u32 = (1..=8).sum();
    assert!(before.elapsed() >= API_WRONG_KEY_PAUSE * pauses, "{:?}", before.elapsed());
    let before = std::time::Instant::now();
    assert_eq!(call(&mut stream, "sesame").await, 200);
    assert!(before.elapsed() < API_WRONG_KEY_PAUSE * pauses, "a right key does not wait");
    let page =
        exchange(address, "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    for (row, count) in [("channels\",status=\"401", 8), ("channels\",status=\"200", 1)] {
        let line = format!("corecast_api_requests_total{{method=\"{row}\"}} {count}\n");
        assert!(page.contains(&line), "{line} in\n{page}");
    }
}

#[tokio::test]
async fn a_connection_stays_open_for_the_time_of_the_setting() {
    let mut settings = settings();
    settings.api.keep_alive = Duration::from_secs(75);
    let node = node_with(settings, obedient);
    node.api.service.parts.status.set_phase(Phase::Serving);
    let address = serve_node(&node);
    let mut stream = TcpStream::connect(address).await.expect("it accepts");
    for _ in 0..3 {
        stream.write_all(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it reads");
        let mut response = String::new();
        while !response.ends_with("serving\n") {
            let byte = stream.read_u8().await.expect("it answers");
            response.push(byte.into());
        }
        let response = response.to_lowercase();
        assert!(response.contains("\r\nkeep-alive: timeout=75\r\n"), "{response}");
        pass(Duration::from_secs(74)).await;
    }
    pass(Duration::from_secs(2)).await;
    assert_eq!(stream.read(&mut [0]).await.expect("it closes"), 0);
}

/// Lets time pass for timers. The clock is paused only meanwhile, so that it does not advance while
/// bytes are on their way.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn health_is_asked_by_get_head_or_options() {
    let node = node_with(settings(), obedient);
    node.api.service.parts.status.set_phase(Phase::Serving);
    for counters in node.api.service.parts.status.shards() {
        counters.alive_nanos.set(now().nanos());
    }
    for path in ["/live", "/ready"] {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let request = Request::builder().method(method).uri(path).body(Body::empty());
            let (status, text) = node.send(request.expect("a request")).await;
            assert_eq!((status, text.is_empty()), (200, method == "HEAD"), "{method} {path}");
        }
        assert_eq!(node.post(path, "").await.0, 405);
    }
}

#[tokio::test]
async fn a_host_that_is_not_the_servers_is_refused_on_every_path() {
    let mut listed = settings();
    listed.server.hosts = vec!["api.example".to_owned()];
    let mut dev = settings();
    (dev.dev, dev.api.keys) = (true, Vec::new());
    let publish = r#"{"channel":"chat:1","data":1}"#;
    let key = ("x-api-key", "sesame");
    for (settings, own, foreign) in [
        (listed, "api.example:9000", "evil.example"),
        (settings(), "evil.example", ""),
        (dev, "localhost:9000", "evil.example:9000"),
    ] {
        let node = node_with(settings, obedient);
        node.api.service.parts.status.set_phase(Phase::Serving);
        let headers = [key, ("host", own)];
        assert_eq!(node.post_with("/api/publish", &headers, publish).await.0, 200, "{own}");
        if foreign.is_empty() {
            continue;
        }
        let headers = [key, ("host", foreign)];
        let (status, text) = node.post_with("/api/publish", &headers, publish).await;
        assert!(status == 403 && text.contains("server.hosts"), "{status} {text}");
        for path in ["/", "/metrics", "/ready", "/dev/numbers.json", "/nothing"] {
            assert_eq!(node.status_at(path, foreign).await, 403, "{path}");
        }
        for path in ["/metrics", "/ready"] {
            assert_eq!(node.status_at(path, "10.0.0.1:9000").await, 200, "a monitor reads {path}");
        }
        assert_eq!(node.status_at("/nothing", "10.0.0.1:9000").await, 403);
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let node = node_with(settings(), obedient);
    let address = serve_node(&node);
    let lines =
        |count: usize| -> String { (0..count).map(|index| format!("x-{index}: y\r\n")).collect() };
    let head = |lines: String| format!("GET /ready HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let many = exchange(address, &head(lines(100))).await;
    assert!(many.starts_with("HTTP/1.1 431"), "{many}");
    let long = exchange(address, &head(format!("x: {}\r\n", "y".repeat(20_000)))).await;
    assert!(long.starts_with("HTTP/1.1 431"), "{long}");
}
