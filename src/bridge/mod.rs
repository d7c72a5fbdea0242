//! The shell of the bus: it shares the engine among the tasks that read the streams and make its
//! calls, and reports its health.

mod mailbox;
mod reader;
mod shell;
mod standing;
mod writer;

pub(crate) use mailbox::Mailbox;
pub(crate) use shell::{Bus, Options};
pub(crate) use standing::Success;

use std::rc::Rc;

/// Starts the tasks that read the streams and make calls. They never end.
pub(crate) fn start(bus: &Rc<Bus>) {
    bus.standing.show_start("loading publications from Redis");
    tokio::task::spawn_local(writer::run(Rc::clone(bus)));
    let all = 0..bus.settings.redis.streams;
    // In a Cluster, streams live on several servers, and a blocking read waits on one server only.
    let readers: Vec<Vec<usize>> = if bus.redis.is_cluster() {
        all.map(|stream| vec![stream]).collect()
    } else {
        vec![all.collect()]
    };
    for streams in readers {
        tokio::task::spawn_local(reader::run(Rc::clone(bus), streams));
    }
}
