//! Several threads serve one port. Clients that connect at the same time are each accepted by one
//! of them, and get every publication.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a panic is how a check fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const THREADS: usize = 3;
const CLIENTS: usize = 300;
/// Number of publications requested in one write.
const PUBLICATIONS: usize = 5;
/// Header and payload of a frame of 64 B.
const FRAME_BYTES: usize = 66;
const PATIENCE: Duration = Duration::from_secs(20);

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: limit\r\n\r\n";

struct Limit {
    child: Child,
    listen: SocketAddr,
    trigger: SocketAddr,
}

impl Limit {
    fn start(flags: &[&str]) -> Limit {
        let mut child = Command::new(env!("CARGO_BIN_EXE_corecast-limit"))
            .args(["--listen", "127.0.0.1:0", "--trigger", "127.0.0.1:0"])
            .args(["--threads", &THREADS.to_string()])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut addresses =
            line.split([' ', ',']).filter_map(|word| word.trim_end_matches(':').parse().ok());
        let (listen, trigger) = (addresses.next(), addresses.next());
        Limit { child, listen: listen.expect(&line), trigger: trigger.expect(&line) }
    }

    /// Returns the number of descriptors in the table of each serving thread.
    fn tables(&self) -> Vec<usize> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let tasks = tasks.map(|task| task.unwrap().path());
        let serves = |task: &std::path::PathBuf| {
            std::fs::read_to_string(task.join("comm")).unwrap().starts_with("shard-")
        };
        let count = |task: std::path::PathBuf| std::fs::read_dir(task.join("fd")).unwrap().count();
        tasks.filter(serves).map(count).collect()
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn everybody_is_served(flags: &[&str]) {
    let limit = Limit::start(flags);
    let connect = |_| {
        let mut stream = TcpStream::connect(limit.listen).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(REQUEST).unwrap();
        stream
    };
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(connect).collect();
    for client in &mut clients {
        read_head(client);
    }
    let tables = limit.tables();
    assert_eq!(tables.len(), THREADS);
    assert!(tables.iter().sum::<usize>() >= CLIENTS, "{tables:?}");
    assert!(tables.iter().all(|&count| count < CLIENTS), "{tables:?} are one table");
    let mut trigger = TcpStream::connect(limit.trigger).unwrap();
    trigger.write_all(&[0; PUBLICATIONS]).unwrap();
    // Clients that disconnect do not affect others.
    drop(clients.split_off(CLIENTS / 2));
    for client in &mut clients {
        read_frames(client, PUBLICATIONS);
    }
    // Their successors get all later publications, and nothing else.
    clients.extend((0..CLIENTS).map(connect));
    clients[CLIENTS / 2..].iter_mut().for_each(read_head);
    trigger.write_all(&[0]).unwrap();
    trigger.write_all(&[0]).unwrap();
    for client in &mut clients {
        read_frames(client, 2);
        client.set_nonblocking(true).unwrap();
        let more = client.read(&mut [0]);
        assert_eq!(more.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}

fn read_head(client: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
}

fn read_frames(client: &mut TcpStream, count: usize) {
    let mut bytes = vec![0; FRAME_BYTES * count];
    client.read_exact(&mut bytes).unwrap();
    for frame in bytes.chunks(FRAME_BYTES) {
        assert_eq!(frame[..2], [0x81, 64]);
    }
}

#[test]
fn threads_share_a_port_over_io_uring() {
    everybody_is_served(&[]);
}

#[test]
fn threads_share_a_port_over_epoll() {
    everybody_is_served(&["--driver", "epoll"]);
}

#[test]
fn publications_that_are_due_at_once_go_together() {
    everybody_is_served(&["--coalesce"]);
}
