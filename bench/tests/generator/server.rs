//! A small threaded server to test the generator with. It supports just enough of each protocol,
//! and can be told to make one mistake.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: \
                        Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const CONNECTED: &str = r#"{"id":1,"connect":{"client":"c","version":"t","ping":25,"pong":true}}"#;
const SUBSCRIBED: &str = r#"{"id":2,"subscribe":{}}"#;

/// A mistake. Mistakes of publications affect number 3, at the first subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    None,
    /// The publication is not sent.
    Lose,
    /// The publication is sent twice.
    Repeat,
    /// The publication is sent after the next one.
    Swap,
    /// The connection is closed instead.
    Close,
    /// Every handshake is answered with 503.
    Refuse,
    /// Every subscription is answered with an error.
    Deny,
    /// Nothing is published for half a second.
    Pause,
    /// An API connection is closed after each answer.
    Forget,
}

/// Number of the affected publication.
pub(crate) const MISTAKEN: u32 = 3;

struct State {
    mistake: Mistake,
    subscribers: Mutex<Vec<Subscriber>>,
    /// Number of clients by source address.
    sources: Mutex<BTreeMap<String, usize>>,
    published: AtomicU32,
    pongs: AtomicU32,
    /// A message for the first subscriber after the next publication.
    late: Mutex<Option<Vec<u8>>>,
}

struct Subscriber {
    stream: TcpStream,
    wraps: bool,
}

/// The running server. Its threads end with the test's process.
pub(crate) struct Server {
    pub(crate) clients: SocketAddr,
    pub(crate) api: SocketAddr,
    /// Sends a canned frame for each byte.
    pub(crate) trigger: SocketAddr,
    state: Arc<State>,
}

impl Server {
    pub(crate) fn start(mistake: Mistake) -> Self {
        let state = Arc::new(State {
            mistake,
            subscribers: Mutex::default(),
            sources: Mutex::default(),
            published: AtomicU32::new(0),
            pongs: AtomicU32::new(0),
            late: Mutex::default(),
        });
        Self {
            clients: listen(&state, serve_client),
            api: listen(&state, serve_api),
            trigger: listen(&state, serve_trigger),
            state,
        }
    }

    /// Returns the URL for clients of `profile`.
    pub(crate) fn url(&self, profile: &str) -> String {
        let path = match profile {
            "corecast" => "/connection/websocket",
            "plain" => "/ws?channels={channel}",
            _ => "/",
        };
        format!("ws://{}{path}", self.clients)
    }

    /// Returns flags to load this server with `profile`. `more` may contain the way to publish.
    pub(crate) fn flags(&self, profile: &str, more: &str) -> String {
        let (url, api) = (self.url(profile), self.api);
        let publish = match profile {
            _ if more.contains("--publish frame") => String::new(),
            "limit" => format!("--publish-url {}", self.trigger),
            _ => format!("--publish-url http://{api}/api/publish"),
        };
        format!("--profile {profile} --url {url} {publish}").trim_end().to_owned()
    }

    /// Returns the source addresses of clients with their counts.
    pub(crate) fn sources(&self) -> Vec<(String, usize)> {
        self.state.sources.lock().unwrap().clone().into_iter().collect()
    }

    /// Returns the number of answers to pings, of both kinds.
    pub(crate) fn pongs(&self) -> u32 {
        self.state.pongs.load(Ordering::SeqCst)
    }
}

/// Serves each connection to a new port on its own thread. Errors end only their connection.
fn listen(state: &Arc<State>, serve: fn(TcpStream, &State) -> std::io::Result<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let state = Arc::clone(state);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let state = Arc::clone(&state);
            thread::spawn(move || serve(stream?, &state));
        }
    });
    address
}

fn serve_client(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    let source = stream.peer_addr()?.ip().to_string();
    *state.sources.lock().unwrap().entry(source).or_default() += 1;
    let head = read_head(&mut stream)?;
    if state.mistake == Mistake::Refuse {
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(());
    }
    stream.set_nodelay(true)?;
    let wraps = head.starts_with("GET /connection/websocket");
    if wraps || head.contains("-publisher&publish=") {
        stream.write_all(ACCEPTED.as_bytes())?;
    } else {
        // The first publication may follow at once, so subscribe before answering.
        let mut subscribers = state.subscribers.lock().unwrap();
        stream.write_all(ACCEPTED.as_bytes())?;
        subscribers.push(Subscriber { stream: stream.try_clone()?, wraps });
    }
    loop {
        let (opcode, payload) = read_frame(&mut stream)?;
        match opcode {
            1 if wraps => {
                for line in payload.lines() {
                    serve_command(line, &stream, state)?;
                }
            }
            1 => publish(&payload, state)?,
            10 => drop(state.pongs.fetch_add(1, Ordering::SeqCst)),
            _ => return Ok(()),
        }
    }
}

fn serve_command(line: &str, mut stream: &TcpStream, state: &State) -> std::io::Result<()> {
    if line == "{}" {
        state.pongs.fetch_add(1, Ordering::SeqCst);
    } else if line.contains("\"connect\"") {
        stream.write_all(&frame(1, CONNECTED))?;
    } else if line.contains("\"subscribe\"") && state.mistake == Mistake::Deny {
        let denied = r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#;
        stream.write_all(&frame(1, denied))?;
    } else if line.contains("\"subscribe\"") {
        let mut subscribers = state.subscribers.lock().unwrap();
        stream.write_all(&frame(1, SUBSCRIBED))?;
        subscribers.push(Subscriber { stream: stream.try_clone()?, wraps: true });
    } else if let Some((before, data)) = line.split_once("\"data\":") {
        publish(data.trim_end_matches("}}").trim_end_matches('"'), state).and_then(|()| {
            let id = before.trim_start_matches("{\"id\":").split(',').next().unwrap();
            stream.write_all(&frame(1, &format!("{{\"id\":{id},\"publish\":{{}}}}")))
        })?;
    }
    Ok(())
}

fn serve_api(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    loop {
        let head = read_head(&mut stream)?;
        let length = head.split("Content-Length: ").nth(1).unwrap().lines().next().unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body)?;
        let body = String::from_utf8(body).unwrap();
        let answer = if head.contains("X-API-Key:wrong") {
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
        } else {
            let data = body.split_once("\"data\":").unwrap().1;
            publish(&data[..data.len() - 1], state)?;
            "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"result\":{}}"
        };
        stream.write_all(answer.as_bytes())?;
        // Not after the warm-up: the next publication follows at once, and the end of the
        // connection might be noticed too late for it.
        let warm = state.published.load(Ordering::SeqCst) > 1;
        if state.mistake == Mistake::Forget && warm {
            return Ok(());
        }
    }
}

fn serve_trigger(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    loop {
        stream.read_exact(&mut [0])?;
        publish("canned", state)?;
    }
}

/// Sends `data` to all subscribers, in two pieces, between pings, and with the mistake.
fn publish(data: &str, state: &State) -> std::io::Result<()> {
    let subscribers = state.subscribers.lock().unwrap();
    let mistaken = state.published.fetch_add(1, Ordering::SeqCst) + 1 == MISTAKEN;
    for (index, subscriber) in subscribers.iter().enumerate() {
        let mut stream = &subscriber.stream;
        let whole = if subscriber.wraps {
            let push = format!(r#"{{"push":{{"channel":"bench","pub":{{"data":{data}}}}}}}"#);
            let mut bytes = frame(1, &format!("{{}}\n{push}"));
            bytes.extend(frame(9, "beat"));
            bytes
        } else {
            frame(2, data)
        };
        if mistaken && index == 0 {
            match state.mistake {
                Mistake::Lose => continue,
                Mistake::Repeat => stream.write_all(&whole)?,
                Mistake::Swap => {
                    *state.late.lock().unwrap() = Some(whole);
                    continue;
                }
                Mistake::Close => {
                    stream.write_all(&frame(8, "\u{c}\u{1c}gone"))?;
                    continue;
                }
                Mistake::Pause => thread::sleep(Duration::from_millis(500)),
                Mistake::None | Mistake::Refuse | Mistake::Deny | Mistake::Forget => {}
            }
        }
        let (first, second) = whole.split_at(whole.len() / 2);
        stream.write_all(first)?;
        stream.write_all(second)?;
        if index == 0
            && !mistaken
            && let Some(late) = state.late.lock().unwrap().take()
        {
            stream.write_all(&late)?;
        }
    }
    Ok(())
}

/// Returns an unmasked frame with a payload of less than 64 KiB.
fn frame(opcode: u8, payload: &str) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode];
    match u8::try_from(payload.len()) {
        Ok(short @ 0..=125) => bytes.push(short),
        _ => {
            bytes.push(126);
            bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    bytes.extend(payload.as_bytes());
    bytes
}

fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8(head).unwrap())
}

/// Reads opcode and payload of a client's frame.
fn read_frame(stream: &mut TcpStream) -> std::io::Result<(u8, String)> {
    let mut header = [0; 2];
    stream.read_exact(&mut header)?;
    if header[1] & 0x80 == 0 {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut length = usize::from(header[1] & 0x7f);
    if length == 126 {
        let mut field = [0; 2];
        stream.read_exact(&mut field)?;
        length = usize::from(u16::from_be_bytes(field));
    }
    let mut mask = [0; 4];
    stream.read_exact(&mut mask)?;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok((header[0] & 0x0f, String::from_utf8_lossy(&payload).into_owned()))
}
