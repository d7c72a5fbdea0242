//! Threads with their cores, descriptor tables, signals and panics; and the limits of the host.

use std::cell::Cell;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::panic::{self, PanicHookInfo};
use std::sync::Once;
use std::time::Duration;

use super::calls::{EventFd, SysError, check};
use super::unix::UnixListener;

/// Returns the numbers of the cores on which this process may run.
pub fn cores() -> Vec<usize> {
    // SAFETY: a cpu_set_t of zeroes is an empty set.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the kernel writes at most the size of `set`.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    let limit = if result == 0 { libc::CPU_SETSIZE as usize } else { 0 };
    // SAFETY: the number is below CPU_SETSIZE.
    let cores: Vec<usize> =
        (0..limit).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect();
    if cores.is_empty() { vec![0] } else { cores }
}

/// Pins the calling thread to a core.
///
/// # Errors
/// The error of the kernel: the core does not exist, or this process may not use it.
pub fn pin_to_core(core: usize) -> Result<(), SysError> {
    if core >= libc::CPU_SETSIZE as usize {
        let source = io::Error::new(io::ErrorKind::InvalidInput, format!("no core {core}"));
        return Err(SysError { call: "sched_setaffinity", source });
    }
    // SAFETY: a cpu_set_t of zeroes is an empty set.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the number is below CPU_SETSIZE.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the kernel reads the size of `set`.
    let result =
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    check("sched_setaffinity", result).map(|_| ())
}

/// Returns the CPU time of the calling thread.
pub fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Sets the name of the calling thread, which `top -H` shows. Names are cut at 15 bytes.
pub fn name_thread(name: &str) {
    let mut bytes = [0u8; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    // SAFETY: the buffer has 16 bytes and the last one is zero, so the name ends within it.
    unsafe { libc::prctl(libc::PR_SET_NAME, bytes.as_ptr()) };
}

/// Starts a thread with its own descriptor table, which has the standard streams, `wakes`,
/// `listeners`, and all descriptors with lower numbers. Then accept and close take no lock that
/// other threads hold, and RLIMIT_NOFILE applies to this thread alone. `run` must not bring other
/// descriptors, whose numbers mean nothing in the new table.
///
/// `run` gets the error of the kernel if it refuses the table, as in some containers. Then the
/// table is still shared, and nothing is closed.
///
/// # Errors
/// The thread can't be started.
pub fn spawn_with_own_descriptors<T: Send + 'static>(
    thread: std::thread::Builder,
    wakes: &[EventFd],
    listeners: &[UnixListener],
    run: impl FnOnce(Result<(), SysError>) -> T + Send + 'static,
) -> io::Result<std::thread::JoinHandle<T>> {
    let listeners = listeners.iter().map(|one| one.number());
    let last = wakes.iter().map(|one| one.number()).chain(listeners).max();
    let first = last.unwrap_or_default().max(libc::STDERR_FILENO) as libc::c_uint + 1;
    thread.spawn(move || {
        // SAFETY: the thread has just begun, so it has opened no descriptor.
        run(unsafe { own_descriptors_below(first) })
    })
}

/// Whether a thread may have its own descriptor table. A short-lived thread tries it. It closes
/// nothing, because no descriptor has so high a number.
pub fn can_own_descriptors() -> bool {
    let highest = libc::c_int::MAX as libc::c_uint;
    // SAFETY: no descriptor has the highest number.
    let own = move || unsafe { own_descriptors_below(highest) };
    std::thread::spawn(move || own().is_ok()).join().unwrap_or(false)
}

/// Gives the calling thread its own descriptor table, without numbers from `first` on.
///
/// # Safety
/// The calling thread must own no descriptor with such a number, because it would be closed here
/// and could be another one later.
unsafe fn own_descriptors_below(first: libc::c_uint) -> Result<(), SysError> {
    // close_range(2) needs Linux 5.9. glibc has a function for it only since 2.34, and the packages
    // are for older versions too.
    let flags = libc::CLOSE_RANGE_UNSHARE as libc::c_int;
    // SAFETY: this closes numbers from `first` on, but only in the new table of this thread, which
    // by the caller's promise does not own any of them.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) };
    check("close_range", result as libc::c_int).map(|_| ())
}

/// Raises RLIMIT_NOFILE as far as possible. Returns the number of descriptors that one table may
/// hold.
pub fn descriptors_max() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 1024;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
    // SAFETY: the kernel reads one rlimit.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
        limit = raised;
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// Signals that main waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: drain, or end immediately if it is the second.
    Stop,
    /// SIGINT: the same, from a user at a terminal, who waits for the end.
    Interrupt,
    /// SIGHUP: a request to reload the settings.
    Reload,
    /// Another signal, which is ignored.
    Other,
}

impl Signal {
    /// Whether it asks the server to end.
    pub const fn ends(self) -> bool {
        matches!(self, Signal::Stop | Signal::Interrupt)
    }
}

const SIGNALS: [i32; 5] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];

fn signal_set() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set; sigaddset takes valid signal numbers.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in SIGNALS {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

/// Blocks the signals for which main waits, in the calling thread and all threads that it starts. A
/// signal handler would run in an arbitrary thread, and could wake main only through a descriptor
/// of that thread's table.
pub fn block_signals() {
    let set = signal_set();
    // SAFETY: `set` is initialised, and the old mask is not requested.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// Waits for the next signal that [`block_signals`] blocked, for at most `limit`.
pub fn wait_for_signal(limit: Option<Duration>) -> Option<Signal> {
    let set = signal_set();
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: limit.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(limit.subsec_nanos()),
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `set` is initialised, details are not requested, and `limit` is null or points to a
    // timespec that outlives the call.
    let signal = unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), limit) };
    match signal {
        libc::SIGTERM => Some(Signal::Stop),
        libc::SIGINT => Some(Signal::Interrupt),
        libc::SIGHUP => Some(Signal::Reload),
        other if other > 0 => Some(Signal::Other),
        _ => None,
    }
}

thread_local! {
    /// Decides whether the process survives a panic of this thread. `None` means that it always
    /// does.
    static SURVIVES: Cell<Option<fn() -> bool>> = const { Cell::new(None) };
}

/// From now on, a panic of the calling thread aborts the process after its message is written,
/// unless `survives` returns true at that moment.
pub fn abort_on_panic(survives: fn() -> bool) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The hook is global, so it is installed once, and looks up the rule of the panicking
        // thread. It aborts before unwinding, so no destructor runs on inconsistent state.
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            report(info);
            if SURVIVES.get().is_some_and(|survives| !survives()) {
                std::process::abort();
            }
        }));
    });
    SURVIVES.set(Some(survives));
}
