//! Freed memory returns to the kernel at once, with the allocator and the option that the program
//! uses.

use corecast::sys::{resident_bytes, return_freed_memory};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The memory of one recovery, and as many recoveries as fit into a node's memory for outboxes.
const PIECE_BYTES: usize = 620_000;
const PIECES: usize = 200;

#[test]
fn what_is_freed_goes_back_to_the_kernel_at_once() {
    return_freed_memory();
    let before = resident_bytes();
    let pieces: Vec<Vec<u8>> = (0..PIECES).map(|_| vec![1; PIECE_BYTES]).collect();
    let full = resident_bytes() - before;
    assert!(full > (PIECES * PIECE_BYTES) as u64 / 2, "{full} B");
    drop(pieces);
    let left = resident_bytes().saturating_sub(before);
    assert!(left < full / 10, "{left} B of {full} B are still there");
}
