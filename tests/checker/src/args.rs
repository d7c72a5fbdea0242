//! The command line.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum as _};

use crate::checks::CHECKS;
use crate::cluster::Bus;
use crate::faults::{KINDS, Kind};
use crate::node::Drivers;

/// The value of `--faults` for all faults that are possible.
pub(crate) const ALL: &str = "all";

/// Causes faults in nodes, Redis and the links between them while clients and publishers run, and
/// checks that all guarantees of delivery are kept.
#[derive(Clone, Debug, Parser)]
#[command(version, after_help = after_help())]
pub(crate) struct Args {
    /// Path of the server's program.
    #[arg(long, value_name = "PATH", default_value = "target/release/corecast")]
    pub(crate) bin: PathBuf,
    /// Seed of the order of faults and of the behaviour of clients [default: random].
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Duration of the load, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// Faults, separated by commas; or all, or none.
    #[arg(long, default_value = ALL, value_name = "LIST")]
    pub(crate) faults: String,
    /// Faults to leave out, separated by commas.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "LIST")]
    pub(crate) without: String,
    /// Number of nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) nodes: u8,
    /// Number of clients; one in ten reads slowly, and one in ten leaves and returns all the time.
    #[arg(long, default_value_t = 200)]
    pub(crate) clients: usize,
    /// Number of channels.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) channels: u16,
    /// Publications per second.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Run a single node without Redis.
    #[arg(long)]
    pub(crate) no_redis: bool,
    /// Form of Redis.
    #[arg(long, value_enum, default_value_t = Bus::Links)]
    pub(crate) redis: Bus,
    /// Driver of the nodes' sockets.
    #[arg(long, value_enum, default_value_t = Drivers::Mixed)]
    pub(crate) driver: Drivers,
    /// Keep histories short, sample memory, sockets and descriptors, and fail if they grow after
    /// half of the time. Without --faults, only faults that end no node are used.
    #[arg(long)]
    pub(crate) soak: bool,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
    /// Keep logs, settings and the history in this directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// Succeed only if this check fails, for servers with a built-in fault.
    #[arg(long, value_name = "CHECK")]
    pub(crate) expect: Option<String>,
}

/// The faults of a soak. They end no node, and can be repeated a thousand times without growing
/// histories.
const SOAK: &str = "kill-redis,failover,planned-failover,client-kill,reset,flush";

fn after_help() -> String {
    let mut text = String::from("Faults:\n");
    for row in &KINDS {
        text.push_str(&format!("  {:<15} {}\n", row.name, row.about));
    }
    text.push_str("\nChecks:\n");
    for check in &CHECKS {
        text.push_str(&format!("  {:<15} {}\n", check.name, check.promise));
    }
    text
}

impl Args {
    /// Returns the selected faults.
    ///
    /// # Errors
    /// If a fault has an unknown name, or if flags can't be combined.
    pub(crate) fn kinds(&self) -> Result<Vec<Kind>> {
        if self.no_redis && self.nodes != 1 {
            bail!(
                "--no-redis with {} nodes: nodes share nothing without it; add --nodes 1",
                self.nodes
            );
        }
        let known = self
            .expect
            .as_ref()
            .is_none_or(|expected| CHECKS.iter().any(|check| check.name == expected));
        if !known {
            bail!("--expect {:?} is no check; --help lists them", self.expect);
        }
        if self.faults == "none" {
            return Ok(Vec::new());
        }
        let possible = |kind: &Kind| kind.fits(self.bus());
        let named = |name| KINDS.iter().find(|row| row.name == name).map(|row| row.kind);
        let mut left_out = Vec::new();
        for name in self.without.split(',').filter(|name| !name.is_empty()) {
            match named(name) {
                Some(kind) => left_out.push(kind),
                None => bail!("--without {name:?} is no fault; --help lists them"),
            }
        }
        let wanted = |kind: &Kind| possible(kind) && !left_out.contains(kind);
        if self.faults == ALL && self.soak {
            return Ok(SOAK.split(',').filter_map(named).filter(wanted).collect());
        }
        if self.faults == ALL {
            return Ok(KINDS.iter().map(|row| row.kind).filter(wanted).collect());
        }
        let mut kinds = Vec::new();
        for name in self.faults.split(',') {
            match named(name) {
                Some(kind) if possible(&kind) => kinds.push(kind),
                Some(_) => bail!("--faults {name} is not possible with {}", self.joined()),
                None => bail!("--faults {name:?} is no fault; --help lists them"),
            }
        }
        Ok(kinds)
    }

    /// Returns the form of Redis, or `None` without Redis.
    pub(crate) fn bus(&self) -> Option<Bus> {
        (!self.no_redis).then_some(self.redis)
    }

    /// Returns the flag for it.
    fn joined(&self) -> String {
        let value = |bus: Bus| bus.to_possible_value().map(|value| value.get_name().to_owned());
        let name = self.bus().and_then(value);
        name.map_or("--no-redis".to_owned(), |name| format!("--redis {name}"))
    }

    /// Returns the command that repeats a run with this seed.
    pub(crate) fn command(&self, seed: u64) -> String {
        let mut command = format!(
            "corecast-checker --bin {} --seed {seed} --seconds {} --faults {} --nodes {} \
             --clients {} --channels {} --rate {} --driver {} {}",
            self.bin.display(),
            self.seconds,
            self.faults,
            self.nodes,
            self.clients,
            self.channels,
            self.rate,
            self.driver
                .to_possible_value()
                .map_or(String::new(), |value| value.get_name().to_owned()),
            self.joined()
        );
        if self.soak {
            command.push_str(" --soak");
        }
        if !self.without.is_empty() {
            command.push_str(&format!(" --without {}", self.without));
        }
        if let Some(keep) = &self.keep {
            command.push_str(&format!(" --keep {}", keep.display()));
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Args {
        Args::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn faults_are_chosen_by_name() {
        assert_eq!(parse("checker").kinds().unwrap().len(), KINDS.len());
        let cluster = parse("checker --redis cluster").kinds().unwrap();
        assert!(cluster.contains(&Kind::Failover) && !cluster.contains(&Kind::Cut));
        assert!(parse("checker --redis cluster --faults cut").kinds().is_err());
        let fewer = parse("checker --without cut,moved").kinds().unwrap();
        assert_eq!(fewer.len(), KINDS.len() - 2);
        assert!(parse("checker --without cuts").kinds().is_err());
        let soak = parse("checker --soak").kinds().unwrap();
        assert_eq!(soak.len(), SOAK.split(',').count());
        assert!(!soak.contains(&Kind::KillNode));
        assert_eq!(parse("checker --faults none").kinds().unwrap(), []);
        let chosen = parse("checker --faults trim,kill-node").kinds().unwrap();
        assert_eq!(chosen, [Kind::Trim, Kind::KillNode]);
        assert!(parse("checker --faults earthquake").kinds().is_err());
    }

    #[test]
    fn without_redis_there_is_one_node_and_nothing_of_redis_breaks() {
        assert!(parse("checker --no-redis").kinds().is_err());
        let alone = parse("checker --no-redis --nodes 1").kinds().unwrap();
        assert_eq!(alone, [Kind::KillNode, Kind::StopNode]);
        assert!(parse("checker --no-redis --nodes 1 --faults flush").kinds().is_err());
    }

    #[test]
    fn the_command_repeats_the_run() {
        let line =
            "checker --faults trim --seconds 7 --no-redis --nodes 1 --driver io_uring --soak";
        let command = parse(line).command(5);
        let again = parse(&command);
        assert_eq!((again.seed, again.seconds, &*again.faults), (Some(5), 7, "trim"));
        assert!(again.no_redis && again.soak && again.driver == Drivers::IoUring);
        let again = parse(&parse("checker --redis sentinel").command(5));
        assert_eq!(again.bus(), Some(Bus::Sentinel));
    }

    #[test]
    fn only_checks_that_exist_can_be_expected() {
        assert!(parse("checker --expect order").kinds().is_ok());
        assert!(parse("checker --expect luck").kinds().is_err());
    }
}
