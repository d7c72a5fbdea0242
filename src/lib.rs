//! Corecast, a WebSocket broadcast server: one message reaches every subscriber on every core.
//!
//! The modules stand in the order in which a message passes them; `ARCHITECTURE.md` walks the same
//! path in prose. A module names only modules of its own layer or below (`tests/layers.rs` holds
//! the table): words, then pure logic, then shells that touch the kernel, then the root.

/// What every part may say: ids, moments and positions.
pub mod ids;
/// Every bound of the program, with what it costs and how it was chosen.
pub mod limits;
/// The secret of a node, from which client ids and the homes of channels follow.
pub mod secret;
/// How durations and sizes are written.
pub mod units;
/// Why a connection ends or a request fails: one table of codes, texts and metric labels.
pub mod reason;

/// Faults built in on purpose, for tests that show they would be caught.
pub mod sabotage;

/// Bounds of the node that its shards share.
pub mod pool;
/// Tables, sets and queues that never stall a turn.
pub mod collections;
/// The networks that clients come from, and how much the clients of each one use.
pub mod subnets;
/// What a shard asks of the kernel: sockets, news of them, writes.
pub mod kernel;
/// Whether the node takes clients: what `/ready` and `/health` say.
pub mod readiness;
/// Takes new sockets from the listener, within the limits of rate and number.
pub mod accept;
/// Reads the HTTP request that opens a connection, and answers it.
pub mod handshake;
/// Turns bytes into WebSocket messages and back.
pub mod ws;
/// Turns messages into commands and events into messages: one codec for each client protocol.
pub mod protocol;
/// Turns the messages of a protocol into the bytes of a connection; keys whatever is encoded once.
pub mod wire;
/// What the server keeps for one client: its slot, its outbox, its unfinished input.
pub mod connection;
/// Channel names, namespaces and publications.
pub mod channel;
/// What clients may do.
pub mod auth;
/// The settings of a node: one typed value, which every thread shares.
pub mod settings;
/// Joins nodes through streams of Redis: what to ask and what the answers mean.
pub mod bus;
/// The channels at home in a shard: their order, their histories, and who listens.
pub mod home;
/// One core's state and all its logic: sessions, channels, fan-out, heartbeats.
pub mod shard;
/// Carries batches and wakes between threads.
pub mod mesh;

/// Reads settings from file, environment and flags into one checked value.
pub mod config;
/// Counts what happens, and shows it to Prometheus.
pub mod metrics;
/// The HTTP API of the application, and the page for a first look.
pub mod api;
/// Connections to Redis. The only module that knows the client library.
pub mod redis;
/// The shell of the bus: reads the streams and makes its calls.
mod bridge;
/// Takes publications in from sources to which applications add them.
pub mod ingest;
/// Which nodes there are, and requests between them.
pub mod cluster;
/// Events for the application.
mod events;
/// System calls: rings, epoll, sockets, descriptors. The only home of `unsafe`.
pub mod sys;
/// What of a host would stop a number of connections.
pub mod doctor;
/// Starts the threads, runs them, drains and stops them.
pub mod server;
/// The commands that people type.
pub mod cli;
