//! One wake for one sleep, however many send: a flag that says whether the receiver sleeps.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// Ends a thread's sleep.
pub trait Wake: Send + fmt::Debug {
    /// Wakes the thread. Called at most once for each of its sleeps.
    fn wake(&self);
}

const RUNNING: u32 = 0;
const SLEEPING: u32 = 1;
const NOTIFIED: u32 = 2;

/// The receiver's state, as senders see it.
///
/// The receiver stores SLEEPING and then looks into its queue; a sender puts into the queue and
/// then looks at the flag. With a full fence between each pair, at least one sees the other: no
/// batch waits while its receiver sleeps.
#[derive(Debug, Default)]
pub struct WakeFlag(AtomicU32);

impl WakeFlag {
    /// The receiver is about to sleep; it must look into its queue once more after this.
    pub fn sleep(&self) {
        self.0.store(SLEEPING, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The receiver does not sleep.
    pub fn wake_up(&self) {
        self.0.store(RUNNING, Ordering::Relaxed);
    }

    /// A sender has put something into the queue. Answers whether it must wake the receiver.
    pub fn notify(&self) -> bool {
        fence(Ordering::SeqCst);
        if crate::sabotage!(LostWake) {
            return false;
        }
        self.0.load(Ordering::Relaxed) == SLEEPING
            && self.0.swap(NOTIFIED, Ordering::AcqRel) == SLEEPING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_senders_wake_a_sleeper_once() {
        let flag = WakeFlag::default();
        assert!(!flag.notify(), "it runs");
        flag.sleep();
        assert!(flag.notify());
        assert!(!flag.notify(), "it has been woken");
        flag.wake_up();
        assert!(!flag.notify());
    }

    #[test]
    fn no_batch_waits_while_its_receiver_sleeps() {
        use crossbeam_channel::bounded;
        use std::sync::Arc;
        const ROUNDS: usize = 200_000;
        let (flag, (sender, receiver)) = (Arc::new(WakeFlag::default()), bounded::<usize>(64));
        let (wake, woken) = bounded::<()>(1);
        let receiving = {
            let flag = Arc::clone(&flag);
            std::thread::spawn(move || {
                let mut next = 0;
                while next < ROUNDS {
                    while let Ok(got) = receiver.try_recv() {
                        assert_eq!(got, next);
                        next += 1;
                    }
                    flag.sleep();
                    if receiver.is_empty() && next < ROUNDS {
                        let slept = woken.recv_timeout(std::time::Duration::from_secs(10));
                        assert!(slept.is_ok() || next == ROUNDS, "slept with {next} received");
                    }
                    flag.wake_up();
                    while woken.try_recv().is_ok() {}
                }
            })
        };
        for round in 0..ROUNDS {
            let mut item = round;
            while let Err(full) = sender.try_send(item) {
                item = full.into_inner();
                std::thread::yield_now();
            }
            if flag.notify() {
                wake.try_send(()).ok();
            }
        }
        receiving.join().expect("the receiver ends");
    }
}
