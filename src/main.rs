//! minimal
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    tracing_subscriber::fmt().init();
    let mut flags = corecast::config::Flags { dev: true, echo: true, ..Default::default() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--shards" => flags.shards = args.next().and_then(|x| x.parse().ok()),
            "--driver" => flags.driver = args.next(),
            "--listen" => flags.listen.push(args.next().unwrap()),
            "--api-listen" => flags.api_listen = args.next(),
            "--config" => flags.config = args.next().map(Into::into),
            _ => {}
        }
    }
    let loaded = corecast::config::load(&flags, Vec::new()).unwrap();
    corecast::server::run(loaded.config, |facts| println!("{facts:?}")).unwrap();
}
