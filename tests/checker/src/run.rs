//! A run from its start to its history: load, faults, repair, quiet, final requests.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use fastrand::Rng;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::args::Args;
use crate::client::{Client, Habit};
use crate::cluster::{Cluster, Topology};
use crate::faults::{Kind, Planned, plan};
use crate::history::{
    Client as ClientRecord, Fault, Final, History, Place, Probe, Publication, now, seconds,
};
use crate::ingest::{Added, Producer};
use crate::load::{Load, Phase};
use crate::node::{DURABLE, NAMESPACE, Settings};
use crate::publisher::{PROBER, Publisher};
use crate::soak::{Sampler, Samples};

/// Publications per second of one publisher. Each waits for its answer before the next one.
const PUBLISHER_RATE: u32 = 10;

/// Channels per client: with 200 clients and 60 channels, each channel has 20 subscribers.
const CLIENT_CHANNELS: usize = 6;

/// Minimum time between two faults.
const CALM: Duration = Duration::from_secs(1);

/// Time for everything to recover after the faults.
const HEAL: Duration = Duration::from_secs(5);

/// Time for the last publications to arrive.
const ARRIVE: Duration = Duration::from_secs(1);

/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);

/// Runs with `args`, and keeps files in `directory`. Returns the history and the counters.
///
/// # Errors
/// If a process or a fault can't be started or repaired.
pub(crate) async fn run(
    args: &Args,
    kinds: &[Kind],
    seed: u64,
    directory: &Path,
) -> Result<(History, Arc<Load>)> {
    let mut random = Rng::with_seed(seed);
    let length = Duration::from_secs(args.seconds);
    let planned = plan(&mut random, kinds, (length, usize::from(args.nodes)));
    let mut cluster = Cluster::start(&args.bin, directory, topology(args, kinds)).await?;
    sleep(ARRIVE).await;
    let baseline = cluster.baseline().await?;

    let names = (0..args.channels).map(channel_name).collect();
    let clients = cluster.nodes.iter().map(|node| node.clients).collect();
    let apis = cluster.nodes.iter().map(|node| node.api).collect();
    let load = Arc::new(Load::new((clients, apis), names));
    let began = Instant::now();
    let mut crew = Crew::start(args, &load, &cluster, &mut random)?;

    let faults = break_things(&mut cluster, &load, began, &planned).await?;
    let mut history = History { faults, ..History::default() };
    sleep_until(began + length).await;
    load.phase.send_replace(Phase::Quiet);
    for fault in &history.faults {
        let end = fault.detail.contains("not ready") || fault.detail.contains("ended");
        history.unhealed.extend(end.then(|| format!("{} {}", fault.kind, fault.detail)));
    }
    let healed = Instant::now();
    crew.stop_publishing(&mut history).await?;
    sleep_until(healed + HEAL).await;
    for node in &mut cluster.nodes {
        history.unhealed.extend(node.ended());
    }
    history.unhealed.append(&mut cluster.complaints);
    probe(&cluster, &load, &mut history, random.fork()).await;
    sleep(ARRIVE).await;
    read_finals(&cluster, &load, &mut history).await;
    if args.bus().is_some() {
        (history.dead, history.untaken) = cluster.taken_in().await?;
    }
    load.phase.send_replace(Phase::Stop);
    let samples = crew.end(&mut history).await?;
    match cluster.usages(&baseline, history_kib(&load, &history.publications)).await {
        Ok(usages) => history.usages = usages,
        Err(error) => history.unhealed.push(format!("{error:#}")),
    }
    history.usages.extend(samples.into_iter().flat_map(|samples| samples.usages(length)));
    history.publications.sort_by_key(|publication| publication.pid);
    history.channels.clone_from(&load.channels);
    history.epochs = load.epochs.texts();
    Ok((history, load))
}

/// All clients and publishers.
struct Crew {
    subscribers: JoinSet<(usize, ClientRecord)>,
    publishers: JoinSet<Vec<Publication>>,
    producer: Option<JoinHandle<Added>>,
    sampler: Option<JoinHandle<Samples>>,
    progress: JoinHandle<()>,
}

impl Crew {
    fn start(args: &Args, load: &Arc<Load>, cluster: &Cluster, random: &mut Rng) -> Result<Crew> {
        let subscribers = start_clients(args, load, random);
        let publishers = start_publishers(args, load, random);
        let at = cluster.primary_at.subscribe();
        let producer = Producer::new(Arc::clone(load), random.fork(), at);
        let producer = args.bus().map(|_| tokio::spawn(producer.run()));
        let sampler = args.soak.then(|| Sampler::new(cluster)).transpose()?;
        let length = Duration::from_secs(args.seconds);
        let sampler = sampler.map(|sampler| tokio::spawn(sampler.run(length)));
        let progress = tokio::spawn(tell_progress(Arc::clone(load)));
        Ok(Crew { subscribers, publishers, producer, sampler, progress })
    }

    /// Waits for the publishers, which stop at the end of the load.
    async fn stop_publishing(&mut self, history: &mut History) -> Result<()> {
        while let Some(record) = self.publishers.join_next().await {
            history.publications.extend(record.context("a publisher panicked")?);
        }
        if let Some(producer) = self.producer.take() {
            let (entries, publications) = producer.await.context("the producer panicked")?;
            history.entries = entries;
            history.publications.extend(publications);
        }
        Ok(())
    }

    /// Waits for all others. Returns the samples, if there are any.
    async fn end(mut self, history: &mut History) -> Result<Option<Samples>> {
        self.progress.abort();
        let mut records: Vec<(usize, ClientRecord)> = Vec::new();
        while let Some(record) = self.subscribers.join_next().await {
            records.push(record.context("a client panicked")?);
        }
        records.sort_by_key(|(number, _)| *number);
        history.clients = records.into_iter().map(|(_, record)| record).collect();
        match self.sampler {
            Some(sampler) => Ok(Some(sampler.await.context("the sampler panicked")?)),
            None => Ok(None),
        }
    }
}

fn topology(args: &Args, kinds: &[Kind]) -> Topology {
    let drivers = args.driver;
    let settings = if args.soak {
        // Limits that are reached within minutes, so that other growth is visible. No client is
        // away for that long.
        let history_ttl = Duration::from_secs(240);
        Settings { drivers, history_size: 500, history_ttl, stream_bytes: "256KiB" }
    } else {
        Settings { drivers, ..Settings::default() }
    };
    Topology {
        nodes: args.nodes,
        bus: args.bus(),
        sites: kinds.iter().any(|kind| kind.needs_sites()),
        clock: kinds.iter().any(|kind| kind.needs_clock()),
        settings,
    }
}

/// Returns a channel's name. Every third channel has a durable history.
fn channel_name(number: u16) -> String {
    let namespace = if number % 3 == 2 { DURABLE } else { NAMESPACE };
    format!("{namespace}:{number}")
}

/// Returns the allowed size of histories on each node: the payloads, and a generous overhead per
/// publication.
fn history_kib(load: &Load, publications: &[Publication]) -> u64 {
    const PUBLICATION_BYTES: u64 = 1024;
    let bytes = load.counts.bytes.load(Ordering::Relaxed);
    (2 * bytes + PUBLICATION_BYTES * publications.len() as u64) / 1024
}

fn start_clients(
    args: &Args,
    load: &Arc<Load>,
    random: &mut Rng,
) -> JoinSet<(usize, ClientRecord)> {
    let mut clients = JoinSet::new();
    for number in 0..args.clients {
        let habit = match number % 10 {
            0 => Habit::Slow,
            1 => Habit::Flapping,
            _ => Habit::Steady,
        };
        let mut own = random.fork();
        let channels = own.choose_multiple(0..args.channels, CLIENT_CHANNELS);
        let client = Client::new(habit, Arc::clone(load), own, &channels);
        clients.spawn(async move { (number, client.run().await) });
    }
    clients
}

fn start_publishers(args: &Args, load: &Arc<Load>, random: &mut Rng) -> JoinSet<Vec<Publication>> {
    let count = args.rate.div_ceil(PUBLISHER_RATE);
    let period = Duration::from_secs_f64(f64::from(count) / f64::from(args.rate));
    let mut publishers = JoinSet::new();
    for number in 0..count {
        let publisher =
            Publisher::new(number as u16, number % 2 == 0, Arc::clone(load), random.fork());
        publishers.spawn(publisher.run(period));
    }
    publishers
}

/// Causes the planned faults. Each starts when it is due and the previous one is repaired.
async fn break_things(
    cluster: &mut Cluster,
    load: &Load,
    began: Instant,
    planned: &[Planned],
) -> Result<Vec<Fault>> {
    let mut faults: Vec<Fault> = Vec::new();
    for fault in planned {
        sleep_until(began + fault.at).await;
        if cluster.streams.is_empty() && !cluster.redis.is_empty() {
            cluster.learn_streams(&load.channels).await?;
        }
        let done = cluster.inject(fault).await?;
        eprintln!("{:>10}  {:<14} {}", seconds(done.begin), done.kind, done.detail);
        faults.push(done);
        sleep(CALM).await;
    }
    Ok(faults)
}

/// Publishes to every channel, through the nodes in turn.
async fn probe(cluster: &Cluster, load: &Arc<Load>, history: &mut History, random: Rng) {
    let mut publisher = Publisher::new(PROBER, false, Arc::clone(load), random);
    for channel in 0..load.channels.len() {
        let node = channel % cluster.nodes.len();
        let (took, error) = publisher.probe(node, channel as u16).await;
        let (node, channel) = (node as u8, channel as u16);
        history.probes.push(Probe { node, channel, took, error });
    }
    history.publications.extend(publisher.into_record());
}

/// Reads every channel's history from every node.
async fn read_finals(cluster: &Cluster, load: &Load, history: &mut History) {
    for node in &cluster.nodes {
        for (channel, name) in load.channels.iter().enumerate() {
            match node.history(name).await {
                Ok(told) => history.finals.push(Final {
                    node: node.number,
                    channel: channel as u16,
                    top: Place { epoch: load.epochs.number(&told.epoch), offset: told.offset },
                    publications: told
                        .publications
                        .iter()
                        .map(|publication| {
                            (publication.offset, publication.data.pid_in(channel as u16))
                        })
                        .collect(),
                }),
                Err(error) => history.unhealed.push(format!("{error:#}")),
            }
        }
    }
}

async fn tell_progress(load: Arc<Load>) {
    let mut ticks = interval(PROGRESS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let read = |cell: &std::sync::atomic::AtomicU64| cell.load(Ordering::Relaxed);
        let counts = &load.counts;
        eprintln!(
            "{:>10}  {} acknowledged, {} refused, {} unknown; {} received",
            seconds(now()),
            read(&counts.ok),
            read(&counts.fail),
            read(&counts.info),
            read(&counts.received)
        );
    }
}
