//! Turns flags into the plans that scenarios work with.

use super::{CommonArgs, PublishArgs};
use crate::error::Error;
use crate::fleet::{Ending, Frames, Plan, Waiting};
use crate::process::{self, Watched};
use crate::profile::Profile;
use crate::publish::{Entrance, Overrides, Way};
use crate::sys;
use crate::target::Target;
use crate::wire::mark::PAYLOAD_BYTES_MIN;

/// Descriptors in a thread's table that are not available for connections.
const DESCRIPTORS_RESERVED: usize = 1000;
/// Smallest receive buffer of a connection. Small frames fit into it, and a million of these
/// buffers fit into memory.
const RECEIVE_BYTES_MIN: i32 = 8 * 1024;
/// Maximum size of a publication.
const PUBLICATION_BYTES_MAX: usize = 1024 * 1024;
/// Maximum number of channels in a run.
const CHANNELS_MAX: u32 = 100_000;
/// Maximum number of connections to publish on.
const PUBLISHERS_MAX: usize = 1000;

/// One server, and the work to do on it.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) profile: Profile,
    /// URL that clients connect to.
    pub(crate) url: String,
    pub(crate) plan: Plan,
    pub(crate) watched: Option<Watched>,
}

impl CommonArgs {
    /// Returns the name of the server in reports.
    pub(crate) fn server_name(&self) -> String {
        Profile::short_name(&self.profile)
    }

    /// Returns the server for `total` connections on this number of channels.
    pub(crate) fn subject(&self, total: usize, channels: u32) -> Result<Subject, Error> {
        if channels == 0 || channels > CHANNELS_MAX || channels as usize > total {
            return Err(Error::Usage(format!(
                "--channels {channels} is not within 1 to {CHANNELS_MAX}, or above --connections"
            )));
        }
        let profile = Profile::load(&self.profile)?;
        let url = self.url.clone().unwrap_or_else(|| profile.url.clone());
        let names = match channels {
            1 => vec![self.channel.clone()],
            _ => (0..channels).map(|index| format!("{}-{index}", self.channel)).collect(),
        };
        let target = Target::new(&profile, &url, &names)?;
        let watched = self.watched(&target);
        let plan = Plan {
            target,
            threads: self.threads(total)?,
            cpus: self.cpus.0.clone(),
            rate: self.connect_rate,
            churn: 0,
            dawdle_bytes: 0,
            timeout: self.timeout,
            receive_bytes: RECEIVE_BYTES_MIN,
            waiting: if self.spin { Waiting::Spin } else { Waiting::Sleep },
            frames: Frames::Marked,
            ending: if self.abort { Ending::Abort } else { Ending::Close },
            destinations: self.destination.clone(),
            sources: self.source.clone(),
            sources_from: 0,
        };
        Ok(Subject { profile, url, plan, watched })
    }

    fn threads(&self, total: usize) -> Result<usize, Error> {
        let limit = sys::raise_descriptor_limit()
            .map_err(|error| Error::system("read the descriptor limit", error))?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let per_thread = limit.saturating_sub(DESCRIPTORS_RESERVED).max(1);
        let threads = self.threads.unwrap_or(total.div_ceil(per_thread).max(1));
        if total == 0 || threads == 0 {
            return Err(Error::Usage("--connections and --threads must be above 0".to_owned()));
        }
        if total.div_ceil(threads) > per_thread {
            return Err(Error::Descriptors { connections: total, threads, per_thread });
        }
        Ok(threads)
    }

    /// Returns the processes of the server: those given by flags, or those on this host that listen
    /// on the target's port.
    fn watched(&self, target: &Target) -> Option<Watched> {
        let mut pids = self.pid.clone();
        if pids.is_empty() && target.address.ip().is_loopback() {
            pids = process::listening_on(target.address.port());
        }
        let thread_prefix = self.thread_prefix.clone();
        (!pids.is_empty()).then_some(Watched { pids, thread_prefix })
    }
}

impl PublishArgs {
    /// Returns the entrance for publications, and adapts the subject's plan to it.
    pub(crate) fn entrance(&self, subject: &mut Subject) -> Result<Entrance, Error> {
        if self.publishers == 0 || self.publishers > PUBLISHERS_MAX {
            return Err(Error::Usage(format!(
                "--publishers {} is not within 1 to {PUBLISHERS_MAX}",
                self.publishers
            )));
        }
        let overrides = Overrides {
            way: self.publish,
            url: self.publish_url.clone(),
            headers: self.publish_header.clone(),
            client_url: subject.url.clone(),
            lines: self.publishers,
        };
        let entrance = Entrance::new(&subject.profile, &subject.plan.target, &overrides)?;
        let channels = subject.plan.target.entries.len();
        if entrance.way == Way::Trigger && channels > 1 {
            return Err(Error::Usage(format!(
                "a server of canned frames has one channel, not {channels}"
            )));
        }
        if entrance.way == Way::Trigger {
            subject.plan.frames = Frames::Canned;
        }
        let smallest = if entrance.way == Way::Trigger { 0 } else { PAYLOAD_BYTES_MIN };
        if !(smallest..=PUBLICATION_BYTES_MAX).contains(&self.bytes) {
            return Err(Error::Usage(format!(
                "--bytes {} is not within {smallest} to {PUBLICATION_BYTES_MAX}",
                self.bytes
            )));
        }
        let needed = i32::try_from(self.bytes * 2).unwrap_or(i32::MAX);
        subject.plan.receive_bytes = subject.plan.receive_bytes.max(needed);
        Ok(entrance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Scenario};
    use clap::Parser;

    #[test]
    fn threads_follow_the_descriptor_limit() {
        let Cli { scenario: Scenario::Connect(args) } = Cli::parse_from(["b", "connect"]) else {
            panic!("another scenario");
        };
        assert_eq!(args.common.subject(1, 1).unwrap().plan.threads, 1);
        let limit = usize::try_from(sys::raise_descriptor_limit().unwrap()).unwrap();
        let two = limit - DESCRIPTORS_RESERVED + 1;
        assert_eq!(args.common.subject(two, 1).unwrap().plan.threads, 2);
        let one = CommonArgs { threads: Some(1), ..args.common };
        assert!(matches!(one.subject(two, 1), Err(Error::Descriptors { .. })));
        assert!(matches!(one.subject(0, 1), Err(Error::Usage(_))));
        assert!(matches!(one.subject(5, 6), Err(Error::Usage(_))));
    }
}
