//! One server of a comparison: its profile, and how it differs from the profile and the common
//! flags.

use super::{CommonArgs, CompareArgs, CompareLoad, PublishArgs};
use crate::error::Error;
use crate::profile::Profile;
use crate::publish::Way;
use clap::ValueEnum;

/// A server as `--server` describes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contender {
    pub(crate) name: String,
    profile: String,
    url: Option<String>,
    pid: Vec<u32>,
    thread_prefix: Option<String>,
    publish: Option<Way>,
    publish_url: Option<String>,
    publish_header: Option<String>,
    /// Number of outstanding publications, if it differs from that of the other servers.
    pub(crate) outstanding: Option<u32>,
}

impl Contender {
    /// Reads `profile,key=value,…`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let mut parts = text.split(',');
        let profile = parts.next().unwrap_or_default().to_owned();
        let name = Profile::short_name(&profile);
        let mut contender = Self { name, profile, ..Self::default() };
        for part in parts {
            let wrong = |why: &str| Error::Usage(format!("--server: {part:?}: {why}"));
            let (key, value) = part.split_once('=').ok_or_else(|| wrong("not key=value"))?;
            let owned = value.to_owned();
            match key {
                "name" => contender.name = owned,
                "url" => contender.url = Some(owned),
                "pid" => contender.pid.push(value.parse().map_err(|_| wrong("not a number"))?),
                "thread-prefix" => contender.thread_prefix = Some(owned),
                "publish" => {
                    let way = Way::from_str(value, true);
                    contender.publish = Some(way.map_err(|_| wrong("http, frame or trigger"))?);
                }
                "publish-url" => contender.publish_url = Some(owned),
                "outstanding" => {
                    let number = value.parse().map_err(|_| wrong("not a number"))?;
                    contender.outstanding = Some(number);
                }
                "publish-header" => contender.publish_header = Some(owned),
                _ => {
                    return Err(wrong(
                        "the keys are name, url, pid, thread-prefix, publish, publish-url, \
                         publish-header, outstanding",
                    ));
                }
            }
        }
        Ok(contender)
    }

    /// Replaces common flags with those of this server.
    pub(crate) fn apply(&self, common: &mut CommonArgs) {
        common.profile.clone_from(&self.profile);
        common.url.clone_from(&self.url);
        common.destination.clear();
        common.pid.clone_from(&self.pid);
        common.thread_prefix = self.thread_prefix.clone().or(common.thread_prefix.take());
    }

    /// Returns the publish flags for this server.
    pub(crate) fn publish(&self, shared: &PublishArgs) -> PublishArgs {
        let mut own = shared.clone();
        own.publish = self.publish.or(shared.publish);
        own.publish_url.clone_from(&self.publish_url);
        own.publish_header.extend(self.publish_header.clone());
        own
    }
}

impl CompareArgs {
    /// Describes the load in words.
    pub(crate) fn describe(&self) -> String {
        let (pairs, seconds, rate) = (self.pairs, self.seconds, self.rate);
        let what = match self.load {
            CompareLoad::Saturate => format!("{} outstanding", self.outstanding),
            CompareLoad::Fanout => format!("{rate} publications/s"),
            CompareLoad::Channels => {
                format!("{rate} publications/s to {} channels", self.channels)
            }
            CompareLoad::Connect => return format!("handshakes, {pairs} windows each"),
        };
        format!("{what} of {} B, {pairs} windows of {seconds} s each", self.publish.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_its_profile_and_what_differs() {
        let server = "bun,name=Bun 1,url=ws://[::1]:1/x?channel={channel},pid=7,publish=frame";
        let contender = Contender::parse(server).unwrap();
        assert_eq!((contender.name.as_str(), contender.profile.as_str()), ("Bun 1", "bun"));
        assert_eq!(contender.url.as_deref(), Some("ws://[::1]:1/x?channel={channel}"));
        assert_eq!((contender.pid, contender.publish), (vec![7], Some(Way::Frame)));
        for wrong in ["bun,pid=x", "bun,what=1", "bun,publish=mail", "bun,url"] {
            assert!(Contender::parse(wrong).is_err(), "{wrong}");
        }
    }
}
