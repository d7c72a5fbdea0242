//! The server's paths without a kernel. Each item of the table runs one of them many times in its
//! own function, so that a profiler can measure it. `perf/run instructions` runs this program under
//! callgrind. Its running times have no meaning.

mod node;
mod pure;
mod sockets;

use node::{Node, Protocol};
use pure::Inputs;

/// The server's allocator, so that allocations cost the same as there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The inputs of items, created before anything is counted.
struct World {
    inputs: Inputs,
    /// Nodes without clients, one for each run that connects clients.
    empty: Vec<Node>,
    /// Nodes with subscribed clients, one for each row of [`NODES`].
    nodes: Vec<Node>,
}

/// Nodes with subscribers: number of shards, and number of clients on all shards.
const NODES: [(usize, usize); 4] = [(1, 1_000), (1, 10_000), (2, 10_000), (8, 10_000)];

/// Number of clients whose connecting is counted.
const NEWCOMERS: usize = 200;

/// Number of rounds of a sweep. Each round is one write for every subscriber.
const ROUNDS: usize = 4;

/// Number of publications per round that are delivered together.
const TOGETHER: usize = 16;

/// Simulated seconds of an idle node.
const IDLE_SECONDS: usize = 60;

impl World {
    fn new() -> World {
        let nodes = NODES.iter().map(|&(shards, clients)| {
            let mut node = Node::new(shards);
            node.connect(clients, Protocol::Centrifugo);
            node
        });
        World {
            inputs: Inputs::new(),
            // Two for each protocol, because every item runs once before it is counted.
            empty: (0..4).map(|_| Node::new(1)).collect(),
            nodes: nodes.collect(),
        }
    }

    fn connect(&mut self, protocol: Protocol) -> usize {
        let mut node = self.empty.pop().expect("a node for each run");
        node.connect(NEWCOMERS, protocol);
        NEWCOMERS
    }

    /// Publishes in rounds to node `number` of [`NODES`]. Returns the number of deliveries.
    fn sweep(&mut self, number: usize, publications: usize) -> usize {
        let node = &mut self.nodes[number];
        let before = node.deliveries();
        for _ in 0..ROUNDS {
            node.publish(publications);
        }
        let (_, clients) = NODES[number];
        let deliveries = node.deliveries() - before;
        assert_eq!(deliveries, clients * publications * ROUNDS, "everybody gets everything");
        assert_eq!(node.take_writes(), clients * ROUNDS, "in one write a round");
        deliveries
    }
}

/// A row of the table: a name, and a function that runs the path and returns its number of
/// operations.
struct Item {
    name: &'static str,
    run: fn(&mut World) -> usize,
}

/// Creates a separate function for each item, which a profiler finds by its name.
macro_rules! items {
    ($($name:ident: $world:ident => $run:expr;)*) => {
        mod item {
            use super::*;
            $(
                #[inline(never)]
                pub(crate) fn $name($world: &mut World) -> usize {
                    $run
                }
            )*
        }
        const ITEMS: &[Item] = &[$(Item { name: stringify!($name), run: item::$name },)*];
    };
}

items! {
    frame_64: world => world.inputs.frame_64.decode();
    frame_1024: world => world.inputs.frame_1024.decode();
    upgrade: world => world.inputs.upgrade();
    decode_connect: world => world.inputs.decode(pure::CONNECT);
    decode_subscribe: world => world.inputs.decode(pure::SUBSCRIBE);
    decode_publish: world => world.inputs.decode(pure::PUBLISH);
    encode_centrifugo: world => world.inputs.encode(corecast::protocol::Protocol::Centrifugo);
    encode_plain: world => world.inputs.encode(corecast::protocol::Protocol::Plain);
    connect_centrifugo: world => world.connect(Protocol::Centrifugo);
    connect_plain: world => world.connect(Protocol::Plain);
    sweep_1000: world => world.sweep(0, 1);
    sweep_1000_together: world => world.sweep(0, TOGETHER);
    sweep_10000: world => world.sweep(1, 1);
    sweep_10000_together: world => world.sweep(1, TOGETHER);
    sweep_10000_of_2_shards: world => world.sweep(2, 1);
    sweep_10000_of_8_shards: world => world.sweep(3, 1);
    idle_second: world => world.nodes[0].idle(IDLE_SECONDS);
}

/// Runs an item before it is counted, so that one-time allocations and caches are in the state of a
/// server that has run for a while.
#[inline(never)]
fn warm_up(item: &Item, world: &mut World) -> usize {
    std::hint::black_box((item.run)(world))
}

/// Runs an item. Only functions called from here are counted.
#[inline(never)]
fn counted(item: &Item, world: &mut World) {
    let operations = (item.run)(world);
    println!("{} {operations}", item.name);
}

fn main() {
    let mut world = World::new();
    for item in ITEMS {
        warm_up(item, &mut world);
        counted(item, &mut world);
    }
}
