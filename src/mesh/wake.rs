//! One wake per sleep, even with many senders. A flag shows whether the receiver sleeps.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// Ends the sleep of a thread.
pub trait Wake: Send + fmt::Debug {
    /// Wakes the thread. It is called at most once per sleep.
    fn wake(&self);
}

const RUNNING: u32 = 0;
const SLEEPING: u32 = 1;
const NOTIFIED: u32 = 2;

/// The state of the receiver, for senders.
///
/// The receiver stores SLEEPING and then checks its queue; a sender adds to the queue and then
/// checks the flag. There is a full fence between the two steps of each. So at least one of them
/// sees the other, and no batch waits while its receiver sleeps.
#[derive(Debug, Default)]
pub struct WakeFlag(AtomicU32);

impl WakeFlag {
    /// Announces that the receiver is about to sleep. It must check its queue once more after this.
    pub fn sleep(&self) {
        self.0.store(SLEEPING, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Announces that the receiver is awake.
    pub fn wake_up(&self) {
        self.0.store(RUNNING, Ordering::Relaxed);
    }

    /// Announces a new batch in the queue. Returns whether the sender must wake the receiver.
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
        assert!(!flag.notify(), "the receiver was woken");
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
