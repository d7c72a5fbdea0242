//! The memory of the process: its size, its pages, and when it is returned to the kernel.

use std::ffi::{c_int, c_long};

// The allocator of the program. This makes the linker include it, for `mi_option_set`.
use mimalloc as _;

/// mimalloc's `mi_option_purge_delay`, in milliseconds.
const PURGE_DELAY: c_int = 15;

// SAFETY: declared as in mimalloc.h. It may be called at any time from any thread.
unsafe extern "C" {
    safe fn mi_option_set(option: c_int, value: c_long);
}

/// Makes the allocator return free pages to the kernel immediately. By default it waits for later
/// allocations, so the memory of earlier slow clients would remain in addition to that of later
/// ones. Then no limit on memory would hold.
pub fn return_freed_memory() {
    mi_option_set(PURGE_DELAY, 0);
}

/// Keeps the kernel from using huge pages for this process, although the allocator asks for them.
/// Mostly empty heaps of 2 MiB pages would cost more memory than all connections of a shard.
pub fn refuse_huge_pages() {
    let on: libc::c_ulong = 1;
    let unused: libc::c_ulong = 0;
    // SAFETY: PR_SET_THP_DISABLE takes no pointers. If it is refused, the process only needs more
    // memory.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, unused, unused, unused) };
}

/// Returns the resident memory of this process in bytes, or 0 if /proc can't be read.
pub fn resident_bytes() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let pages: Option<u64> = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * page_bytes()
}

/// Returns the bytes of a page: 4096 on x86-64; on arm64 it depends on the kernel, up to 65,536.
pub fn page_bytes() -> u64 {
    // SAFETY: sysconf takes no pointers.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096)
}
