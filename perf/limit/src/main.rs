//! The ceiling: a TCP server that answers every upgrade with the same bytes, and sends the same
//! frame to all clients. It uses the server's ring, listener, descriptor tables and batch size. Any
//! additional cost of Corecast is due to Corecast itself.

mod asked;
mod canned;
mod serve;

use asked::Asked;
use canned::Frames;
use clap::{Parser, ValueEnum};
use corecast::sys::{
    Epoll, EventFd, Listener, ListenerOptions, Ring, SysError, descriptors_max, name_thread,
    pin_to_core, refuse_huge_pages, spawn_with_own_descriptors,
};
use serve::{CLIENT_BYTES, Server};
use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

/// The server's default ping interval and pong timeout, which set TCP_USER_TIMEOUT.
const USER_TIMEOUT: Duration = Duration::from_secs(35);

/// Maximum number of threads, because each has a ring, and its wake has a place in every table.
const THREADS_MAX: u16 = 256;

/// Sends one canned WebSocket frame to every client for each byte that a publisher sends.
#[derive(Debug, Parser)]
struct Args {
    /// Address for clients.
    #[arg(long, default_value = "127.0.0.1:8100")]
    listen: SocketAddr,
    /// Address for the publisher. It opens last, when all threads are listening.
    #[arg(long, default_value = "127.0.0.1:8101")]
    trigger: SocketAddr,
    /// Number of threads. Each has its own connections, as many as RLIMIT_NOFILE allows.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16)
        .range(1..=i64::from(THREADS_MAX)))]
    threads: u16,
    /// Processor on which all threads run.
    #[arg(long)]
    cpu: Option<usize>,
    /// Size of the payload of the frame, in bytes.
    #[arg(long, default_value_t = 64)]
    bytes: usize,
    /// Send pending publications in one write, one frame each.
    #[arg(long)]
    coalesce: bool,
    /// How to drive sockets.
    #[arg(long, value_enum, default_value = "io_uring")]
    driver: Choice,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Choice {
    /// Send batches with one system call.
    IoUring,
    /// Send with one `send` for each socket.
    Epoll,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corecast-limit: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    if let Some(cpu) = args.cpu {
        pin_to_core(cpu)?;
    }
    refuse_huge_pages();
    descriptors_max();
    // Created before any thread starts, so that each wake has the same number in every table.
    let wakes = (0..args.threads).map(|_| EventFd::new()).collect::<Result<Vec<_>, _>>()?;
    let kept = wakes.clone();
    let asked = Arc::new(Asked::new(wakes.clone()));
    let frames = Frames::new(args.bytes, args.coalesce);
    let mut listen = args.listen;
    for (index, wake) in wakes.into_iter().enumerate() {
        let (sender, started) = channel();
        let member = Member {
            listen,
            driver: args.driver,
            wake,
            asked: Arc::clone(&asked),
            frames: frames.clone(),
        };
        let run = move |own| member.run(index, own, &sender);
        spawn_with_own_descriptors(thread::Builder::new(), &kept, &[], run)?;
        // All threads share the port, even if the kernel chose it for the first one.
        listen = started.recv()?;
    }
    let triggers = TcpListener::bind(args.trigger)?;
    println!(
        "listening on {listen}, trigger on {}: {} threads, {CLIENT_BYTES} B of its own for each \
         connection",
        triggers.local_addr()?,
        args.threads
    );
    Ok(asked.serve(&triggers)?)
}

/// The parts of one thread.
struct Member {
    listen: SocketAddr,
    driver: Choice,
    wake: EventFd,
    asked: Arc<Asked>,
    frames: Frames,
}

impl Member {
    /// Serves for ever. If a thread fails, the process ends, because otherwise only part of the
    /// load would be measured.
    fn run(self, index: usize, own: Result<(), SysError>, started: &Sender<SocketAddr>) {
        let served = own.map_err(Into::into).and_then(|()| self.serve(index, started));
        if let Err(error) = served {
            eprintln!("corecast-limit: thread {index}: {error}");
            std::process::exit(1);
        }
    }

    fn serve(self, index: usize, started: &Sender<SocketAddr>) -> Result<(), Box<dyn Error>> {
        // The prefix of the server's shards, so that the generator finds the threads of both
        // programs.
        name_thread(&format!("shard-{index}"));
        let listener = Listener::bind(self.listen, ListenerOptions { user_timeout: USER_TIMEOUT })?;
        let address = listener.address()?;
        match self.driver {
            Choice::IoUring => {
                let mut server =
                    Server::new(Ring::new(self.wake)?, listener, self.asked, self.frames);
                started.send(address)?;
                server.run()?;
            }
            Choice::Epoll => {
                let mut server =
                    Server::new(Epoll::new(self.wake)?, listener, self.asked, self.frames);
                started.send(address)?;
                server.run()?;
            }
        }
        Ok(())
    }
}
