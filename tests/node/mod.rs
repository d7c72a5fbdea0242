//! A `corecast serve` process of one test: its API, its state in the kernel, and its clients.
#![allow(dead_code, reason = "each test uses a part of this")]

pub mod peer;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

pub const DRIVERS: [&str; 2] = ["io_uring", "epoll"];

/// Timeout for anything that takes hardly any time on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The start of a server.
#[derive(Clone, Copy, Default)]
pub struct Start<'a> {
    pub driver: &'a str,
    pub shards: usize,
    /// The text of a settings file; empty for none.
    pub config: &'a str,
    /// The value of `CORECAST_FAULT`; empty for none.
    pub fault: &'a str,
}

impl Start<'_> {
    /// Returns the command, with pipes for its output, and the file of its settings.
    pub fn command(&self) -> (Command, Option<PathBuf>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corecast"));
        let shards = self.shards.to_string();
        command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"]);
        command.args(["--shards", &shards, "--driver", self.driver]);
        let file = (!self.config.is_empty()).then(|| settings_file(self.config));
        if let Some(file) = &file {
            command.arg("--config").arg(file);
        }
        // The server refuses variables that it does not read.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CORECAST_") {
                command.env_remove(name);
            }
        }
        if !self.fault.is_empty() {
            command.env("CORECAST_FAULT", self.fault);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        (command, file)
    }
}

fn settings_file(text: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("corecast-{}-{count}.toml", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).expect("a settings file can be written");
    path
}

/// A running server. Dropping this value kills it.
pub struct Node {
    child: Child,
    pub clients: SocketAddr,
    pub api: SocketAddr,
    log: Arc<Mutex<String>>,
    agent: ureq::Agent,
    config: Option<PathBuf>,
}

impl Node {
    /// Starts a server and waits for its banner.
    pub fn start(start: Start<'_>) -> Node {
        let (mut command, config) = start.command();
        let mut child = command.spawn().expect("the binary starts");
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().expect("a pipe");
        let keeper = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = keeper.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (mut clients, mut api, mut line) = (None, None, String::new());
        while clients.is_none() || api.is_none() {
            line.clear();
            let count = stdout.read_line(&mut line).expect("the banner is text");
            assert!(count > 0, "the server ended: {}", log.lock().unwrap());
            clients = clients.or(address(&line, "ws://"));
            api = api.or(address(&line, "http://"));
        }
        std::thread::spawn(move || stdout.read_to_string(&mut String::new()));
        let agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
        let (clients, api) = (clients.unwrap(), api.unwrap());
        Node { child, clients, api, log, agent, config }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the server's standard error.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Returns the whole answer to an API request.
    pub fn call(&self, method: &str, body: &str) -> Value {
        let url = format!("http://{}/api/{method}", self.api);
        let request = self.agent.post(url).content_type("application/json");
        let mut response = request.send(body).unwrap_or_else(|error| panic!("{method}: {error}"));
        serde_json::from_str(&response.body_mut().read_to_string().unwrap()).expect("JSON")
    }

    /// Returns the result of an API request that must succeed.
    pub fn result(&self, method: &str, body: &Value) -> Value {
        let mut answer = self.call(method, &body.to_string());
        assert!(answer.get("error").is_none(), "{method} {body}: {answer}");
        answer["result"].take()
    }

    /// Returns the body of a page at the API's address.
    pub fn page(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.api);
        let mut response = self.agent.get(url).call().unwrap_or_else(|e| panic!("{path}: {e}"));
        response.body_mut().read_to_string().unwrap()
    }

    /// Returns the sum of all lines of a metric.
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.page("/metrics");
        let lines = page.lines().filter_map(|line| line.strip_prefix(name));
        lines
            .filter(|rest| rest.starts_with([' ', '{']))
            .map(|rest| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Returns the number of subscribers of a channel.
    pub fn subscribers(&self, channel: &str) -> u64 {
        let answer = self.result("channels", &serde_json::json!({"pattern": channel}));
        answer["channels"][channel]["num_clients"].as_u64().unwrap_or(0)
    }

    /// Returns each thread's name with the size of its descriptor table.
    pub fn tables(&self) -> Vec<(String, usize)> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        tasks
            .map(|task| task.unwrap().path())
            .filter_map(|task| {
                let name = std::fs::read_to_string(task.join("comm")).ok()?;
                Some((name.trim().to_owned(), std::fs::read_dir(task.join("fd")).ok()?.count()))
            })
            .collect()
    }

    /// Returns the number of descriptors in the tables of all shards.
    pub fn shard_descriptors(&self) -> usize {
        let tables = self.tables().into_iter();
        tables.filter(|(name, _)| name.starts_with("shard-")).map(|(_, count)| count).sum()
    }

    /// Asks the server to drain and stop.
    pub fn terminate(&self) {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(status.success(), "the server was still there");
    }

    /// Waits for the end of the server.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the server has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if let Some(config) = &self.config {
            std::fs::remove_file(config).ok();
        }
        if std::thread::panicking() {
            println!("the server's log:\n{}", self.log());
        }
    }
}

/// Returns the address after `scheme` in a line of the banner.
fn address(line: &str, scheme: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(scheme)?;
    rest.split('/').next()?.parse().ok()
}

/// Waits until `is_so` returns true.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < limit, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns a runtime for the clients of one thread.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Serialises tests that need the whole machine.
pub fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
