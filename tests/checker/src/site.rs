//! Network namespaces. The checker runs in its own namespace, and each node in another one, called
//! a site. Each site has a link for Redis, which can be cut, and a second one for clients and
//! requests, which always works. A namespace ends with its last process.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::{Instant, sleep};

use crate::process::{ENTERED, Process};

/// Commands that must succeed in a namespace, before the actual command.
const PREPARE: &str = "ip link set lo up && nft list ruleset >/dev/null && exec \"$@\"";

/// Timeout for the creation of a site's namespace.
const MAKE_MAX: Duration = Duration::from_secs(5);

/// Third bytes of addresses of links to Redis and of links for clients: 10.0.n.0, 10.1.n.0.
const REDIS: u8 = 0;
const CLIENTS: u8 = 1;

/// One end of a link to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The end at the node.
    Node,
    /// The other end.
    Redis,
}

/// One node's site.
#[derive(Debug)]
pub(crate) struct Site {
    number: u8,
    /// The process that holds the namespace.
    holder: Process,
}

/// Whether this process runs in its own namespace.
pub(crate) fn is_entered() -> bool {
    std::env::var_os(ENTERED).is_some()
}

/// Replaces this process by `program` in a new namespace. Returns only an error. Without root, the
/// user may lack the right to create user namespaces.
pub(crate) fn enter(program: &Path, arguments: &[String]) -> anyhow::Error {
    let trial = entering(Path::new("true"), &[]).output();
    match trial {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr);
            return anyhow::anyhow!("no network namespace can be made: {}", error.trim());
        }
        Err(error) => return anyhow::anyhow!("can't start `unshare`: {error}"),
    }
    entering(program, arguments).exec().into()
}

/// Returns the command that runs `program` in its own namespace.
pub(crate) fn entering(program: &Path, arguments: &[String]) -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--net", "sh", "-c", PREPARE, "sh"]).arg(program).args(arguments);
    command.env(ENTERED, "1");
    command
}

impl Site {
    /// Creates a site. Its files are kept in `directory`.
    ///
    /// # Errors
    /// If the kernel has no namespaces, or `ip` is missing.
    pub(crate) async fn make(number: u8, directory: &Path) -> Result<Site> {
        std::fs::create_dir_all(directory).context("can't make a site's directory")?;
        let words = ["--net", "sleep", "infinity"].map(str::to_owned);
        let holder = Process::start(Path::new("unshare"), &words, &directory.join("site.log"))?;
        let site = Site { number, holder };
        let began = Instant::now();
        let ours = std::fs::read_link("/proc/self/ns/net").context("no network namespaces")?;
        while std::fs::read_link(site.path()).is_ok_and(|theirs| theirs == ours) {
            if began.elapsed() > MAKE_MAX {
                bail!("node {number} has no network namespace after {MAKE_MAX:?}");
            }
            sleep(Duration::from_millis(5)).await;
        }
        let pid = site.holder.pid().to_string();
        for network in [REDIS, CLIENTS] {
            let link = site.link(network);
            let words = ["link", "add", "dev", &link, "type", "veth", "peer", "name", &link];
            site.run(End::Redis, "ip", &[&words[..], &["netns", &pid]].concat()).await?;
            for end in [End::Redis, End::Node] {
                let address = format!("{}/30", site.address(network, end));
                site.run(end, "ip", &["address", "add", &address, "dev", &link]).await?;
                site.run(end, "ip", &["link", "set", &link, "up"]).await?;
            }
        }
        site.run(End::Node, "ip", &["link", "set", "lo", "up"]).await?;
        Ok(site)
    }

    /// Returns the first words of commands that run at the site.
    pub(crate) fn inside(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net={}", self.path()), "--".to_owned()]
    }

    /// Returns the node's address, and the address of its link to Redis.
    pub(crate) fn addresses(&self) -> (IpAddr, IpAddr) {
        (self.address(CLIENTS, End::Node).into(), self.address(REDIS, End::Redis).into())
    }

    /// Disables the link at one end. That end has no route, and the other end sees silence.
    ///
    /// # Errors
    /// If `ip` can't do it.
    pub(crate) async fn pull(&self, end: End) -> Result<()> {
        self.run(end, "ip", &["link", "set", &self.link(REDIS), "down"]).await
    }

    /// Drops all packets to this end of the link silently.
    ///
    /// # Errors
    /// If `nft` can't do it.
    pub(crate) async fn deafen(&self, end: End) -> Result<()> {
        let (table, link) = (self.table(), self.link(REDIS));
        let rules = format!(
            "add table {table}; add chain {table} arriving {{ type filter hook ingress \
             device {link} priority 0; policy drop; }}"
        );
        self.run(end, "nft", &[&rules]).await
    }

    /// Repairs the link.
    ///
    /// # Errors
    /// If `ip` or `nft` can't do it.
    pub(crate) async fn heal(&self) -> Result<()> {
        let (table, link) = (self.table(), self.link(REDIS));
        for end in [End::Redis, End::Node] {
            let rules = format!("add table {table}; delete table {table}");
            self.run(end, "nft", &[&rules]).await?;
            self.run(end, "ip", &["link", "set", &link, "up"]).await?;
        }
        Ok(())
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.pid())
    }

    fn link(&self, network: u8) -> String {
        format!("{}{}", if network == REDIS { "bus" } else { "door" }, self.number)
    }

    fn table(&self) -> String {
        format!("netdev cut{}", self.number)
    }

    fn address(&self, network: u8, end: End) -> Ipv4Addr {
        Ipv4Addr::new(10, network, self.number, if end == End::Redis { 1 } else { 2 })
    }

    /// Runs a command at one end of the links.
    async fn run(&self, end: End, program: &str, arguments: &[&str]) -> Result<()> {
        let mut words = if end == End::Node { self.inside() } else { Vec::new() };
        words.push(program.to_owned());
        words.extend(arguments.iter().map(|&word| word.to_owned()));
        let output = tokio::process::Command::new(&words[0]).args(&words[1..]).output().await;
        let output = output.with_context(|| format!("can't start `{}`", words[0]))?;
        if !output.status.success() {
            bail!("{words:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
