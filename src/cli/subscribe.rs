//! `corecast subscribe`: prints the messages of channels, and reconnects after a cut.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use tungstenite::http::Uri;
use tungstenite::{HandshakeError, Message, WebSocket};

use super::failure::Failure;
use super::print::{escaped, print_line_to};
use crate::limits::{SUBSCRIBE_PAUSE_MAX, SUBSCRIBE_PAUSE_MIN, SUBSCRIBE_SILENCE_MAX};

/// Arguments of `subscribe`.
#[derive(Debug, Args)]
pub(super) struct SubscribeArgs {
    /// Channels to subscribe to, such as news or chat:42.
    #[arg(required = true, value_name = "CHANNEL")]
    channels: Vec<String>,
    /// URL of the server's port for clients.
    #[arg(long, env = "CORECAST_URL", default_value = "ws://127.0.0.1:8000")]
    url: String,
    /// Print each message as JSON, with its channel and position.
    #[arg(long)]
    json: bool,
}

/// An envelope of the server. One with neither data nor gap has the position at which a channel
/// begins.
#[derive(Debug, Deserialize)]
struct Envelope<'a> {
    channel: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    epoch: String,
    gap: Option<Gap>,
}

/// Missed messages: all between these two offsets.
#[derive(Debug, Deserialize)]
struct Gap {
    after: u64,
    next: u64,
}

impl Gap {
    /// The gap as a message to print. If `after` is 0, the server no longer knows the client's
    /// position.
    fn words(&self, channel: &str) -> String {
        match self.after {
            0 => format!("messages of {channel} were missed and can't be recovered"),
            after => {
                let (first, last) = (after + 1, self.next.saturating_sub(1));
                format!("messages {first} to {last} of {channel} were missed")
            }
        }
    }
}

/// The end of a connection.
enum Ended {
    /// Reconnect. The text is the cause.
    Retry(String),
    /// Do not reconnect.
    Stop(Failure),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Ended {
        Ended::Stop(failure)
    }
}

/// Prints messages until the reader of the output closes the pipe, or the server refuses
/// permanently.
pub(super) fn run(args: &SubscribeArgs) -> Result<(), Failure> {
    let kind = if io::stdout().is_terminal() { Output::Terminal } else { Output::Pipe };
    run_to(args, &mut io::stdout(), kind)
}

/// The receiver of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// A terminal, which obeys control characters. It shows their escapes instead.
    Terminal,
    /// A pipe or a file, which gets messages as they are.
    Pipe,
}

/// The same as [`run`], with another output.
fn run_to(args: &SubscribeArgs, out: &mut dyn io::Write, kind: Output) -> Result<(), Failure> {
    let target = Target::new(&args.url).map_err(Failure::Words)?;
    let positions = BTreeMap::new();
    let mut session = Session { args, out, kind, target, positions, connections: 0 };
    let mut pause = SUBSCRIBE_PAUSE_MIN;
    loop {
        let before = session.connections;
        let happened = match session.run() {
            Ended::Stop(failure) => return Err(failure),
            Ended::Retry(happened) => happened,
        };
        // A server that refuses connections is asked less and less often.
        if session.connections > before {
            pause = SUBSCRIBE_PAUSE_MIN;
        }
        let wait = jittered(pause, SystemTime::now());
        eprintln!("corecast: {happened}; reconnecting in {:.1} s", wait.as_secs_f32());
        std::thread::sleep(wait);
        pause = (pause * 2).min(SUBSCRIBE_PAUSE_MAX);
    }
}

/// A time between half of `pause` and all of it, from the clock's finest digits. Clients that were
/// cut off together must not return together.
fn jittered(pause: Duration, now: SystemTime) -> Duration {
    let nanos = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    pause / 2 + pause.mul_f64(f64::from(nanos % 1_000_003) / 1_000_003.0 / 2.0)
}

/// The server to connect to.
#[derive(Debug, PartialEq)]
struct Target {
    host: String,
    port: u16,
    path: String,
}

impl Target {
    /// Parses `url`. The default path is that of plain WebSocket.
    fn new(url: &str) -> Result<Target, String> {
        let wrong = || format!("{url:?} is not a WebSocket URL: use the form ws://127.0.0.1:8000");
        let full = if url.contains("://") { url.to_owned() } else { format!("ws://{url}") };
        let uri: Uri = full.parse().map_err(|_| wrong())?;
        match uri.scheme_str() {
            // http is what the same server is called by everything but a WebSocket client.
            Some("ws" | "http") => {}
            Some("wss") => {
                return Err(format!(
                    "{url}: TLS is not supported; connect to the server itself with ws://"
                ));
            }
            _ => return Err(wrong()),
        }
        let path = if uri.path() == "/" { "/ws" } else { uri.path() };
        Ok(Target {
            host: uri.host().ok_or_else(wrong)?.to_owned(),
            port: uri.port_u16().unwrap_or(80),
            path: path.to_owned(),
        })
    }

    /// The URL that subscribes to these channels and recovers from `positions`.
    fn url(&self, channels: &[String], positions: &BTreeMap<String, String>) -> String {
        let encoded: Vec<String> =
            channels.iter().map(|channel| percent_encoded(channel)).collect();
        let Target { host, port, path } = self;
        let channels = encoded.join(",");
        let mut url = format!("ws://{host}:{port}{path}?channels={channels}&envelope=json");
        for (channel, position) in positions {
            url.push_str(&format!("&since={}@{position}", percent_encoded(channel)));
        }
        url
    }
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A sequence of connections, each of which continues the one before.
struct Session<'a> {
    args: &'a SubscribeArgs,
    out: &'a mut dyn io::Write,
    kind: Output,
    target: Target,
    /// `epoch:offset` of the last message of each channel, or the position at which it began.
    positions: BTreeMap<String, String>,
    /// Number of connections opened so far.
    connections: u64,
}

impl Session<'_> {
    /// Runs one connection until it ends.
    fn run(&mut self) -> Ended {
        match self.connect() {
            Ok(socket) => {
                self.connections += 1;
                self.read(socket)
            }
            Err(ended) => ended,
        }
    }

    fn connect(&self) -> Result<WebSocket<TcpStream>, Ended> {
        let Target { host, port, .. } = &self.target;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare, *port)).map_err(|error| self.unreachable(&error))?;
        // A broken network path reports no error, so a long silence counts as a cut.
        let silence = stream.set_read_timeout(Some(SUBSCRIBE_SILENCE_MAX));
        silence.map_err(|error| Ended::Retry(error.to_string()))?;
        let url = self.target.url(&self.args.channels, &self.positions);
        match tungstenite::client::client(url.as_str(), stream) {
            Ok((socket, _)) => Ok(socket),
            Err(HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                let status = response.status().as_u16();
                let body = response.into_body().unwrap_or_default();
                let line = String::from_utf8_lossy(&body).trim_end().to_owned();
                let words = format!("{} returned status {status}: {line}", self.args.url);
                let words = escaped(&words).into_owned();
                Err(if status >= 500 { Ended::Retry(words) } else { stop(words) })
            }
            Err(HandshakeError::Failure(error)) => Err(Ended::Retry(error.to_string())),
            Err(HandshakeError::Interrupted(_)) => {
                Err(Ended::Retry(format!("{} does not respond", self.args.url)))
            }
        }
    }

    /// No server listens there. At the start this is probably a wrong URL; later it is a restart.
    fn unreachable(&self, error: &io::Error) -> Ended {
        let words = format!("no server at {}: {error}", self.args.url);
        if self.connections > 0 || error.kind() == io::ErrorKind::TimedOut {
            return Ended::Retry(words);
        }
        stop(format!(
            "{words}. Is it running? Start one with `corecast serve --dev`, or set its URL with \
             --url"
        ))
    }

    fn read(&mut self, mut socket: WebSocket<TcpStream>) -> Ended {
        loop {
            match socket.read() {
                Ok(Message::Text(text)) => {
                    if let Err(failure) = self.print(text.as_str()) {
                        return Ended::Stop(failure);
                    }
                }
                Ok(Message::Close(frame)) => {
                    let (code, reason) = frame
                        .map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string()));
                    let reason = escaped(&reason);
                    let words = format!("the server closed the connection: {code} {reason}");
                    return if is_final(code) { stop(words) } else { Ended::Retry(words) };
                }
                // Pings are answered by the library.
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    let seconds = SUBSCRIBE_SILENCE_MAX.as_secs();
                    return Ended::Retry(format!("the server sent nothing for {seconds} s"));
                }
                Err(error) => return Ended::Retry(error.to_string()),
            }
        }
    }

    /// Prints one message, and stores its position.
    fn print(&mut self, text: &str) -> Result<(), Failure> {
        let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(text) else {
            return Err(Failure::Words(format!(
                "the server sent {text:?}, which is not a valid envelope"
            )));
        };
        if !envelope.epoch.is_empty() {
            let position = format!("{}:{}", envelope.epoch, envelope.offset);
            self.positions.insert(envelope.channel.clone(), position);
        }
        if self.args.json && (envelope.data.is_some() || envelope.gap.is_some()) {
            return self.print_text(text);
        }
        if let Some(gap) = &envelope.gap {
            eprintln!("corecast: {}", gap.words(&escaped(&envelope.channel)));
        }
        let Some(data) = envelope.data else { return Ok(()) };
        // A string is printed as its content: text that was published is printed as text.
        let shown = serde_json::from_str(data.get()).unwrap_or_else(|_| data.get().to_owned());
        match self.args.channels.len() {
            1 => self.print_text(&shown),
            _ => {
                let (channel, shown) = (self.shown(&envelope.channel), self.shown(&shown));
                let line = format!("{channel}\t{shown}");
                print_line_to(self.out, &line)
            }
        }
    }

    fn print_text(&mut self, text: &str) -> Result<(), Failure> {
        let shown = self.shown(text);
        print_line_to(self.out, &shown)
    }

    /// Returns a text of the server as the output should get it.
    fn shown<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.kind {
            Output::Terminal => escaped(text),
            Output::Pipe => Cow::Borrowed(text),
        }
    }
}

fn stop(words: String) -> Ended {
    Ended::Stop(Failure::Words(words))
}

/// Whether a client must not reconnect after this close code. Source: Centrifugo's disconnect
/// codes, and RFC 6455 §7.4.1 for codes that report a mistake of the client.
fn is_final(code: u16) -> bool {
    matches!(code, 1002 | 1003 | 1007..=1009 | 3500..=3999 | 4500..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_means_plain_websocket() {
        let table = [
            ("ws://127.0.0.1:8000", "ws://127.0.0.1:8000/ws?channels=a,b%2Cc&envelope=json"),
            ("ws://[::1]", "ws://[::1]:80/ws?channels=a,b%2Cc&envelope=json"),
            ("ws://h:1/x/ws?y=z", "ws://h:1/x/ws?channels=a,b%2Cc&envelope=json"),
        ];
        let channels = ["a".to_owned(), "b,c".to_owned()];
        for (url, expected) in table {
            assert_eq!(
                Target::new(url).map(|target| target.url(&channels, &BTreeMap::new())).as_deref(),
                Ok(expected)
            );
        }
        for bare in ["h:1", "http://h:1"] {
            assert_eq!(Target::new(bare), Target::new("ws://h:1"), "{bare}");
        }
        let target = Target::new("ws://h").expect("a URL");
        let positions = BTreeMap::from([("b,c".to_owned(), "ab:7".to_owned())]);
        assert!(target.url(&channels, &positions).ends_with("&envelope=json&since=b%2Cc@ab:7"));
        for wrong in ["redis://h", "wss://h", "", "ws://"] {
            assert!(Target::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pauses_are_jittered_by_up_to_half() {
        for nanos in [0, 1, 999_999, 999_999_999] {
            let now = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
            let wait = jittered(SUBSCRIBE_PAUSE_MIN, now);
            assert!(wait >= SUBSCRIBE_PAUSE_MIN / 2 && wait <= SUBSCRIBE_PAUSE_MIN, "{wait:?}");
        }
    }

    #[test]
    fn codes_of_no_return_end_the_command() {
        assert!([3500, 3503, 3999, 4500, 1008].into_iter().all(is_final));
        assert!(![1000, 1001, 1005, 1006, 1012, 1013, 3001, 3008, 4000].into_iter().any(is_final));
    }

    #[test]
    fn without_a_server_the_error_says_how_to_start_one() {
        let url = "ws://127.0.0.1:1".to_owned();
        let args = SubscribeArgs { channels: vec!["a".to_owned()], url, json: false };
        let words = run(&args).expect_err("nobody listens").to_string();
        assert!(words.contains("refused") && words.contains("serve --dev"), "{words}");
    }

    /// A server that accepts one connection for each list of messages, and closes it with the code
    /// that ends the list. Returns the paths of the requests.
    fn serve(
        listener: std::net::TcpListener,
        connections: Vec<(Vec<&'static str>, u16)>,
    ) -> std::thread::JoinHandle<Vec<String>> {
        std::thread::spawn(move || {
            connections.into_iter().map(|script| serve_one(&listener, script)).collect()
        })
    }

    fn serve_one(
        listener: &std::net::TcpListener,
        (messages, code): (Vec<&'static str>, u16),
    ) -> String {
        use tungstenite::handshake::server::{Request, Response};
        let (stream, _) = listener.accept().expect("a client connects");
        let mut path = String::new();
        #[expect(clippy::result_large_err, reason = "the library's own signature")]
        let note = |request: &Request, response: Response| {
            path = request.uri().to_string();
            Ok(response)
        };
        let mut socket = tungstenite::accept_hdr(stream, note).expect("a handshake");
        for message in messages {
            socket.send(Message::text(message)).expect("the client reads");
        }
        let frame = tungstenite::protocol::CloseFrame { code: code.into(), reason: "why".into() };
        socket.close(Some(frame)).expect("it is open");
        while socket.read().is_ok() {}
        path
    }

    #[test]
    fn after_a_cut_each_channel_goes_on_where_it_was() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let server = serve(
            listener,
            vec![
                (
                    vec![
                        r#"{"channel":"b","epoch":"f","offset":0}"#,
                        r#"{"channel":"a","epoch":"e","offset":6}"#,
                        r#"{"channel":"a","data":"text","offset":7,"epoch":"e"}"#,
                        r#"{"channel":"a","data":{"n":1},"offset":8,"epoch":"e"}"#,
                    ],
                    3001,
                ),
                (vec![r#"{"channel":"a","gap":{"after":8,"next":10}}"#], 3503),
            ],
        );
        let url = format!("ws://{address}");
        let channels = vec!["a".to_owned(), "b".to_owned()];
        let args = SubscribeArgs { channels, url, json: false };
        let mut out = Vec::new();
        let words = run_to(&args, &mut out, Output::Pipe).expect_err("3503 is final").to_string();
        assert_eq!(String::from_utf8(out).expect("text"), "a\ttext\na\t{\"n\":1}\n");
        assert!(words.contains("3503 why"), "{words}");
        let paths = server.join().expect("the server's thread");
        let first = "/ws?channels=a,b&envelope=json";
        assert_eq!(paths, [first.to_owned(), format!("{first}&since=a@e:8&since=b@f:0")]);
    }

    #[test]
    fn a_gap_is_told_by_its_offsets() {
        let gap = |after, next| Gap { after, next }.words("a");
        assert_eq!(gap(8, 10), "messages 9 to 9 of a were missed");
        assert_eq!(gap(0, 10), "messages of a were missed and can't be recovered");
    }
}
