//! The shell of the bus: gives its engine to the tasks that read the streams and make its calls,
//! and says how it stands.

mod mailbox;
mod reader;
mod shell;
mod standing;
mod writer;

pub(crate) use mailbox::Mailbox;
pub(crate) use shell::{Bus, Options};
pub(crate) use standing::Success;

use std::rc::Rc;

/// Starts to read the streams and to make calls: for ever.
pub(crate) fn start(bus: &Rc<Bus>) {
    bus.standing.show_start("loading publications from Redis");
    tokio::task::spawn_local(writer::run(Rc::clone(bus)));
    let all = 0..bus.settings.redis.streams;
    // In a Cluster, streams live on several servers, and a read that waits has one.
    let readers: Vec<Vec<usize>> = if bus.redis.is_cluster() {
        all.map(|stream| vec![stream]).collect()
    } else {
        vec![all.collect()]
    };
    for streams in readers {
        tokio::task::spawn_local(reader::run(Rc::clone(bus), streams));
    }
}
