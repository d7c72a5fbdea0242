//! The ceiling: a TCP server that answers every upgrade with the same bytes and sends the same
//! frame to everyone, on the server's own ring, listener and batch size. What Corecast costs above
//! it is Corecast's.

mod canned;
mod serve;
mod sys;

use clap::{Parser, ValueEnum};
use corecast::sys::{
    Epoll, EventFd, Listener, ListenerOptions, Ring, descriptors_max, name_thread, pin_to_core,
};
use serve::Server;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

/// The server's default ping interval and pong timeout, which set TCP_USER_TIMEOUT.
const USER_TIMEOUT: Duration = Duration::from_secs(35);

/// Sends one canned WebSocket frame to every client for each byte that a publisher sends.
#[derive(Debug, Parser)]
struct Args {
    /// Where clients connect.
    #[arg(long, default_value = "127.0.0.1:8100")]
    listen: SocketAddr,
    /// Where the publisher connects.
    #[arg(long, default_value = "127.0.0.1:8101")]
    trigger: SocketAddr,
    /// Processor to run on.
    #[arg(long)]
    cpu: Option<usize>,
    /// Payload of the frame.
    #[arg(long, default_value_t = 64)]
    bytes: usize,
    /// How sockets are driven.
    #[arg(long, value_enum, default_value = "io_uring")]
    driver: Choice,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Choice {
    /// Batches of sends in one system call.
    IoUring,
    /// One `send` after the other.
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
    // The same prefix as the server's shards, so that the generator finds either's threads.
    name_thread("shard-0");
    if let Some(cpu) = args.cpu {
        pin_to_core(cpu)?;
    }
    descriptors_max();
    let options = ListenerOptions { user_timeout: USER_TIMEOUT };
    let listener = Listener::bind(args.listen, options)?;
    let triggers = Listener::bind(args.trigger, options)?;
    let frame = canned::frame(args.bytes);
    let wake = EventFd::new()?;
    match args.driver {
        Choice::IoUring => Server::new(Ring::new(wake)?, listener, triggers, frame).run()?,
        Choice::Epoll => Server::new(Epoll::new(wake)?, listener, triggers, frame).run()?,
    }
    Ok(())
}
