//! System calls, behind safe functions. All of the program's `unsafe` is in this directory, one
//! operation a block, each with its proof.
#![allow(unsafe_code, reason = "system calls and rings have no safe form")]

mod calls;
mod driver;
mod epoll;
mod memory;
mod owned;
mod ring;
mod sockets;
mod threads;

pub use calls::{EventFd, SysError, TimerFd, always_readable, now, random_bytes, unix_millis};
pub use driver::Driver;
pub use epoll::Epoll;
pub use memory::{refuse_huge_pages, resident_bytes, return_freed_memory};
pub use ring::Ring;
pub use sockets::{Accepted, Claim, Listener, ListenerOptions, SpareDescriptor, is_reset, refuse};
pub use threads::{
    Signal, abort_on_panic, block_signals, can_own_descriptors, cores, descriptors_max,
    name_thread, own_descriptors, pin_to_core, thread_cpu, wait_for_signal,
};
