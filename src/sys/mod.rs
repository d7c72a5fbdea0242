//! System calls behind safe functions. This directory contains all `unsafe` code of the program.
//! Each block has one operation and the reason why it is sound.
#![allow(unsafe_code, reason = "system calls and rings have no safe interface")]

mod calls;
mod driver;
mod epoll;
mod memory;
mod owned;
mod ring;
mod sockets;
mod threads;
mod unix;

pub use calls::{EventFd, SysError, TimerFd, always_readable, now, random_bytes, unix_millis};
pub use driver::Driver;
pub use epoll::Epoll;
pub use memory::{page_bytes, refuse_huge_pages, resident_bytes, return_freed_memory};
pub use ring::{Ring, once_there_is_memory};
pub use sockets::{
    Accepted, Claim, Listener, ListenerOptions, SpareDescriptor, is_reset, peek, peer, refuse,
};
pub use threads::{
    Signal, abort_on_panic, block_signals, can_own_descriptors, cores, descriptors_max,
    name_thread, pin_to_core, spawn_with_own_descriptors, thread_cpu, wait_for_signal,
};
pub use unix::{SocketAccess, SocketFile, UnixListener};
