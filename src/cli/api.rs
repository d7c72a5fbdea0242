//! Calls of the HTTP API of a running server: the arguments that all such commands share, one call,
//! and errors that name the way out.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::failure::Failure;
use super::unix_api;
use crate::limits::{API_CALL_TIMEOUT, API_RESULT_BYTES_MAX};

/// Exit codes and variables of the commands that call the API.
pub(super) const API_HELP: &str = "Exit code: 0 on success, 1 if the API can't be reached or \
    refuses, 2 for wrong usage.\n\nThe API of a node speaks for all nodes that share its Redis.";

/// Arguments of every command that calls the API.
#[derive(Debug, Args)]
pub(super) struct ApiArgs {
    /// URL of the HTTP API; http:// may be omitted. For a Unix socket, unix: and its path.
    #[arg(long, value_name = "URL", env = "CORECAST_API_URL")]
    #[arg(default_value = "http://127.0.0.1:9000")]
    pub(super) api: String,
    /// One of the server's api.keys. All users of this host can read it in the list of processes,
    /// but not in CORECAST_API_KEY or a file.
    #[arg(long, value_name = "KEY", env = "CORECAST_API_KEY", hide_env_values = true)]
    pub(super) api_key: Option<String>,
    /// File with the key. If it has several, the first one is used.
    #[arg(long, value_name = "FILE", env = "CORECAST_API_KEY_FILE")]
    pub(super) api_key_file: Option<PathBuf>,
    /// Print the result of the API as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// One call of a method.
#[derive(Debug)]
pub(super) struct Call<'a, P> {
    /// The name of the method.
    pub(super) method: &'static str,
    /// Its parameters.
    pub(super) params: &'a P,
    /// The words that follow "can't" in an error, such as `publish to "news"`.
    pub(super) purpose: String,
}

/// The body of a response.
#[derive(Debug, Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<ErrorBody>,
}

#[derive(Debug, Deserialize)]
struct ErrorBody {
    code: u16,
    message: String,
}

impl ApiArgs {
    /// Makes a call, and returns the result as JSON.
    ///
    /// # Errors
    /// The API can't be reached, is not Corecast's, or refuses the call. The message says what to
    /// do.
    pub(super) fn call<P: Serialize>(&self, call: &Call<'_, P>) -> Result<String, Failure> {
        let body = serde_json::to_vec(call.params);
        let body = body.map_err(|error| Failure::Words(error.to_string()))?;
        let (status, answer) = self.send(call.method, &body)?;
        self.result(&call.purpose, status, &answer).map_err(Failure::Words)
    }

    /// Reads a result that [`Self::call`] returned.
    ///
    /// # Errors
    /// The result has another form than that of Corecast's API.
    pub(super) fn read<'de, T: Deserialize<'de>>(&self, result: &'de str) -> Result<T, Failure> {
        serde_json::from_str(result).map_err(|_| Failure::Words(self.no_api(result)))
    }

    /// Posts `body`. Returns status and body of the response.
    fn send(&self, method: &str, body: &[u8]) -> Result<(u16, String), Failure> {
        let base = base_url(&self.api).map_err(Failure::Words)?;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(API_CALL_TIMEOUT))
            .build();
        let agent = match self.api.strip_prefix(UNIX) {
            Some(path) => unix_api::agent(config, Path::new(path)),
            None => ureq::Agent::new_with_config(config),
        };
        let mut request = agent.post(format!("{base}/api/{method}"));
        request = request.header("content-type", "application/json");
        if let Some(key) = self.key().map_err(Failure::Words)? {
            request = request.header("x-api-key", key);
        }
        let mut response = request.send(body).map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(API_RESULT_BYTES_MAX);
        let text = body.read_to_string().map_err(|error| self.unreachable(&error))?;
        Ok((status, text))
    }

    /// Returns the key, if there is one.
    ///
    /// # Errors
    /// The file can't be read, or has no key. The error is the message to print.
    fn key(&self) -> Result<Option<String>, String> {
        if self.api_key.is_some() {
            return Ok(self.api_key.clone());
        }
        let Some(path) = &self.api_key_file else { return Ok(None) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("can't read {}: {error}", path.display()))?;
        let mut keys = text.split(['\n', ',']).map(str::trim).filter(|key| !key.is_empty());
        let key = keys.next().ok_or_else(|| format!("{} has no key", path.display()))?;
        Ok(Some(key.to_owned()))
    }

    /// The error if the API did not respond.
    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let api = &without_password(&self.api);
        Failure::Words(match error {
            ureq::Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused => format!(
                "no API at {api}: connection refused. Is the server running? Start one with \
                 `corecast serve --dev`, or set the URL of its API with --api"
            ),
            ureq::Error::Io(io) if io.kind() == ErrorKind::NotFound => format!(
                "no API at {api}: there is no such socket. Is the server running, and is this its \
                 server.api_listen?"
            ),
            ureq::Error::Io(io) if io.kind() == ErrorKind::PermissionDenied => format!(
                "{api}: permission denied. server.unix_mode and server.unix_group say who may \
                 connect"
            ),
            ureq::Error::HostNotFound => {
                format!("{api}: the host name does not exist; set the URL of the API with --api")
            }
            ureq::Error::BadUri(_) => bad_url(api),
            ureq::Error::Timeout(_) => format!(
                "{api} did not respond within {} s. If it is the API of a server, look at the \
                 server's log",
                API_CALL_TIMEOUT.as_secs()
            ),
            ureq::Error::BodyExceedsLimit(limit) => {
                format!("{api} returned more than {limit} bytes; ask for less with --limit")
            }
            other => format!("{api}: {other}"),
        })
    }

    /// The result in a response.
    ///
    /// # Errors
    /// The call failed. The error is the message to print.
    fn result(&self, purpose: &str, status: u16, answer: &str) -> Result<String, String> {
        let api = &without_password(&self.api);
        match status {
            200 => {}
            401 if self.api_key.is_none() && self.api_key_file.is_none() => {
                return Err(format!(
                    "{api} requires a key: pass one of its api.keys with --api-key-file or \
                     CORECAST_API_KEY"
                ));
            }
            401 => {
                return Err(format!(
                    "{api} does not accept this key: use one of the server's api.keys"
                ));
            }
            404 | 405 | 426 => {
                return Err(format!(
                    "{api} is not a Corecast API: it returns status {status}. Use the address of \
                     server.api_listen (port 9000 by default), not that for clients"
                ));
            }
            413 => {
                return Err(format!(
                    "{api} refuses a request of this size: send less, or raise api.body_bytes_max"
                ));
            }
            503 => {
                return Err(format!(
                    "{api} returned status 503: {}. Try again in a moment",
                    answer.trim_end()
                ));
            }
            _ => return Err(format!("{api} returned status {status}: {}", answer.trim_end())),
        }
        let parsed: Answer<'_> = serde_json::from_str(answer).map_err(|_| self.no_api(answer))?;
        if let Some(ErrorBody { code, message }) = parsed.error {
            return Err(format!("can't {purpose}: {message} ({code}){}", hint(code)));
        }
        parsed.result.map(|result| result.get().to_owned()).ok_or_else(|| self.no_api(answer))
    }

    fn no_api(&self, answer: &str) -> String {
        let shown: String = answer.chars().take(ANSWER_SHOWN_CHARS).collect();
        format!("{} is not a Corecast API: it returned {shown:?}", without_password(&self.api))
    }
}

/// Number of characters of an unexpected response that an error shows.
const ANSWER_SHOWN_CHARS: usize = 100;

/// The way out of an error of the API, if its message does not have one.
fn hint(code: u16) -> &'static str {
    match code {
        102 => "; the part before ':' must be a namespace in the server's settings",
        _ => "",
    }
}

/// Returns a URL for messages, without a user and password.
fn without_password(url: &str) -> String {
    let Some((before, host)) = url.rsplit_once('@') else { return url.to_owned() };
    match before.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://…@{host}"),
        None => format!("…@{host}"),
    }
}

/// The beginning of the address of a Unix socket.
const UNIX: &str = "unix:";

/// The URL without a trailing `/` or `/api`. Without a scheme it is http.
/// A Unix socket has no URL, but requests to it need one.
///
/// # Errors
/// Another scheme. The error is the message to print.
fn base_url(text: &str) -> Result<String, String> {
    if text.starts_with(UNIX) {
        return Ok("http://localhost".to_owned());
    }
    let full = match text.split_once("://") {
        None if text.is_empty() => return Err(bad_url(text)),
        None => format!("http://{text}"),
        Some(("http", _)) => text.to_owned(),
        Some(("https", _)) => {
            return Err(format!(
                "{}: TLS is not supported; connect to the API itself with http://",
                without_password(text)
            ));
        }
        Some(("ws" | "wss", _)) => {
            return Err(format!(
                "{} is a URL for clients: use that of the API, such as http://127.0.0.1:9000",
                without_password(text)
            ));
        }
        Some(_) => return Err(bad_url(text)),
    };
    Ok(full.trim_end_matches('/').trim_end_matches("/api").to_owned())
}

fn bad_url(text: &str) -> String {
    format!(
        "{:?} is not the URL of an API: use the form http://127.0.0.1:9000",
        without_password(text)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> ApiArgs {
        ApiArgs {
            api: "http://127.0.0.1:9".to_owned(),
            api_key: None,
            api_key_file: None,
            json: false,
        }
    }

    #[test]
    fn a_url_without_a_scheme_is_http() {
        for (text, base) in [
            ("localhost:9000", "http://localhost:9000"),
            ("127.0.0.1:9000/", "http://127.0.0.1:9000"),
            ("[::1]:9000", "http://[::1]:9000"),
            ("http://h/api", "http://h"),
            ("http://h/api/", "http://h"),
            ("unix:/run/corecast/api.sock", "http://localhost"),
        ] {
            assert_eq!(base_url(text), Ok(base.to_owned()), "{text}");
        }
        for (text, part) in [
            ("https://h", "TLS"),
            ("ws://h:8000", "for clients"),
            ("redis://h", "URL"),
            ("", "URL"),
        ] {
            let words = base_url(text).expect_err(text);
            assert!(words.contains(part) && words.contains("http://"), "{words}");
        }
    }

    #[test]
    fn answers_are_told_in_words() {
        let table = [
            (200, r#"{"result":{"a":1}}"#, Ok(r#"{"a":1}"#)),
            (200, r#"{"error":{"code":108,"message":"m"}}"#, Err("can't do it: m (108)")),
            (200, r#"{"error":{"code":102,"message":"m"}}"#, Err("must be a namespace")),
            (200, "<html>", Err("not a Corecast API")),
            (200, "{}", Err("not a Corecast API")),
            (401, "", Err("--api-key-file")),
            (404, "", Err("server.api_listen")),
            (413, "", Err("api.body_bytes_max")),
            (503, "busy\n", Err("status 503: busy. Try again")),
        ];
        for (status, answer, expected) in table {
            match (args().result("do it", status, answer), expected) {
                (Ok(words), Ok(expected)) => assert_eq!(words, expected),
                (Err(words), Err(part)) => assert!(words.contains(part), "{words}"),
                (found, expected) => panic!("{found:?} where {expected:?} was expected"),
            }
        }
    }

    #[test]
    fn no_password_of_a_url_is_shown() {
        for (url, expected) in [
            ("http://me:sesame@h:9000", "http://…@h:9000"),
            ("me:ses@me@h", "…@h"),
            ("http://h:9000", "http://h:9000"),
            ("unix:/run/api.sock", "unix:/run/api.sock"),
        ] {
            assert_eq!(without_password(url), expected);
        }
        let args = ApiArgs { api: "http://me:sesame@127.0.0.1:1".to_owned(), ..args() };
        let call = Call { method: "info", params: &(), purpose: "ask".to_owned() };
        let words = args.call(&call).expect_err("nobody listens").to_string();
        assert!(!words.contains("sesame") && words.contains("127.0.0.1:1"), "{words}");
    }

    #[test]
    fn a_key_comes_from_a_file_with_one_or_more() {
        let path = std::env::temp_dir().join(format!("corecast-key-{}", std::process::id()));
        let key = |text: &str| {
            std::fs::write(&path, text).expect("a temporary file");
            ApiArgs { api_key_file: Some(path.clone()), ..args() }.key()
        };
        assert_eq!(key("sesame\n"), Ok(Some("sesame".to_owned())));
        assert_eq!(key(" new, old\n"), Ok(Some("new".to_owned())));
        assert_eq!(key("\nnew\nold\n"), Ok(Some("new".to_owned())));
        assert!(key("\n").expect_err("no key").contains("has no key"));
        std::fs::remove_file(&path).expect("it is there");
        let gone = ApiArgs { api_key_file: Some(path.clone()), ..args() }.key();
        assert!(gone.expect_err("no file").contains("can't read"), "{path:?}");
        assert_eq!(args().key(), Ok(None));
    }

    #[test]
    fn without_a_server_the_error_says_how_to_start_one() {
        let args = ApiArgs { api: "127.0.0.1:1".to_owned(), ..args() };
        let call = Call { method: "info", params: &(), purpose: "ask".to_owned() };
        let words = args.call(&call).expect_err("nobody listens").to_string();
        assert!(words.contains("connection refused") && words.contains("serve --dev"), "{words}");
        let args = ApiArgs { api: "unix:/nowhere/api.sock".to_owned(), ..args };
        let words = args.call(&call).expect_err("nobody listens").to_string();
        assert!(words.contains("no such socket") && words.contains("api_listen"), "{words}");
    }
}
