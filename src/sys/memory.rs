//! Memory of the process: what it may be made of, how much there is, and when it is given back.

use std::ffi::{c_int, c_long};

// The program's allocator, linked for its options.
use mimalloc as _;

/// mimalloc's `mi_option_purge_delay`, in milliseconds.
const PURGE_DELAY: c_int = 15;

// SAFETY: declared as in mimalloc.h; both may be called at any time from any thread.
unsafe extern "C" {
    safe fn mi_option_set(option: c_int, value: c_long);
}

/// Has the allocator give pages back to the kernel as soon as nothing is on them. By itself it does
/// so when much has been allocated later, if ever: what clients that did not read have cost would
/// stay, beside what others cost then, and no bound on memory would hold.
pub fn return_freed_memory() {
    mi_option_set(PURGE_DELAY, 0);
}

/// Keeps the kernel from backing this process's memory with huge pages, which the allocator asks
/// for: heaps of 2 MiB pages that are mostly empty cost more than all connections of a shard.
pub fn refuse_huge_pages() {
    let on: libc::c_ulong = 1;
    let unused: libc::c_ulong = 0;
    // SAFETY: PR_SET_THP_DISABLE takes no pointers. Where it is refused, memory is merely larger.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, unused, unused, unused) };
}

/// Bytes of this process that are in memory: 0 where /proc can't say.
pub fn resident_bytes() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let pages: Option<u64> = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    // SAFETY: sysconf takes no pointers.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.unwrap_or(0) * u64::try_from(page_bytes).unwrap_or(4096)
}
