//! Corecast, a WebSocket broadcast server: one publication reaches every subscriber on every core.
//!
//! Words are listed first, then the path of a message through a node, which `ARCHITECTURE.md`
//! describes, then everything around it. There are four layers: words, pure logic, shells that
//! touch the kernel, and the root. A module uses only modules of its own layer or of lower ones.
//! `tests/layers.rs` has the table of layers and checks it.

/// Small values that every layer uses: ids, moments and positions.
pub mod ids;
/// All limits that are not settings, with their costs and reasons.
pub mod limits;
/// The secret of a node, from which client ids and the homes of channels are derived.
pub mod secret;
/// Parsers for durations and sizes.
pub mod units;
/// The reasons for closed connections and failed requests: tables of codes, texts and metric
/// labels.
pub mod reason;

/// Faults that tests switch on, to show that they would be noticed.
pub mod sabotage;

/// Log lines that clients can cause, at most one per second and kind.
pub mod repeats;
/// Limits of the node that its shards share.
pub mod pool;
/// Tables, sets and queues whose operations never stall a turn.
pub mod collections;
/// Limits for the clients of one network, on the whole node.
pub mod subnets;
/// The addresses of clients behind proxies.
pub mod proxies;
/// The trait through which a shard uses the kernel: sockets, their events, and writes.
pub mod kernel;
/// Decides whether the node accepts clients, for `/ready` and `/health`.
pub mod readiness;
/// Accepts new sockets, within limits of rate and number.
pub mod accept;
/// Decides which web pages may connect, and by which names this server may be addressed.
pub mod origins;
/// Parses the HTTP request that opens a connection, and writes the response.
pub mod handshake;
/// Turns bytes into WebSocket messages and back.
pub mod ws;
/// Turns messages into commands and events into messages: one codec for each client protocol.
pub mod protocol;
/// Turns the messages of a protocol into the bytes of a connection.
pub mod wire;
/// The state of one client: its slot, its outbox and its unfinished input.
pub mod connection;
/// Channel names, namespaces and publications.
pub mod channel;
/// The permissions of clients.
pub mod auth;
/// The settings of a node: one typed value, which every thread shares.
pub mod settings;
/// The logic that connects nodes through streams in Redis: the calls to make, and the meaning of
/// their answers.
pub mod bus;
/// The channels whose home is a shard: their order, their histories, and the shards that listen.
pub mod home;
/// The logic of one core: sessions, channels, fan-out and heartbeats.
pub mod shard;
/// Carries batches and wakes between threads.
pub mod mesh;

/// Loads the settings from a file, the environment and flags into one checked value.
pub mod config;
/// Counters of all threads, and the page for Prometheus.
pub mod metrics;
/// The HTTP API for the application, and the demo page.
pub mod api;
/// Connections to Redis. The only module that knows the client library.
pub mod redis;
/// The shell of the bus, which reads the streams and makes the calls.
mod bridge;
/// Reads publications from sources to which applications add them.
pub mod ingest;
/// The other nodes: their leases, and requests between nodes.
pub mod cluster;
/// Events for the application.
mod events;
/// Lines about the end of the process, which are written without the thread of the log.
mod fatal;
/// System calls: rings, epoll, sockets and descriptors. It contains all `unsafe` code.
pub mod sys;
/// Checks whether a host can hold a number of connections.
pub mod doctor;
/// Starts the threads, runs them, drains and stops them.
pub mod server;
/// The commands of the program.
pub mod cli;

/// The tests that judge times use the same allocator as the server.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
