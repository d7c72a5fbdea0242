//! Tests a link with each behaviour, in front of an echo server.

use super::*;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(150);

/// Returns a link to an echo server, and one connection through it.
async fn linked() -> (Link, TcpStream) {
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = echo.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = echo.accept().await {
            tokio::spawn(async move {
                let (mut reads, mut writes) = socket.split();
                tokio::io::copy(&mut reads, &mut writes).await.ok()
            });
        }
    });
    let link = Link::open("127.0.0.1:0".parse().unwrap(), upstream).await.unwrap();
    let socket = TcpStream::connect(link.address).await.unwrap();
    (link, socket)
}

/// Sends `text` and returns the bytes that came back, when all have arrived or after `most`.
async fn echo(socket: &mut TcpStream, text: &str, most: Duration) -> String {
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut back = vec![0; text.len()];
    match timeout(most, socket.read_exact(&mut back)).await {
        Ok(Ok(_)) => String::from_utf8(back).unwrap(),
        _ => String::new(),
    }
}

#[tokio::test]
async fn an_open_link_passes_everything() {
    let (_link, mut socket) = linked().await;
    let text = "x".repeat(200_000);
    let (mut reads, mut writes) = socket.split();
    let mut back = vec![0; text.len()];
    let (written, read) =
        tokio::join!(writes.write_all(text.as_bytes()), reads.read_exact(&mut back));
    written.unwrap();
    assert_eq!(read.unwrap(), text.len());
}

#[tokio::test]
async fn a_held_link_is_silent_and_passes_all_of_it_later() {
    let (link, mut socket) = linked().await;
    assert_eq!(echo(&mut socket, "one", PATIENCE).await, "one");
    link.shape(Shape { passage: Passage::Held, ..Shape::default() });
    assert_eq!(echo(&mut socket, "two", SILENCE).await, "");
    link.heal();
    let mut back = [0; 3];
    timeout(PATIENCE, socket.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"two");
}

#[tokio::test]
async fn a_half_open_link_swallows_and_is_reset_when_it_is_healed() {
    for passage in [Passage::Swallowed, Passage::RepliesSwallowed] {
        let (link, mut socket) = linked().await;
        assert_eq!(echo(&mut socket, "one", PATIENCE).await, "one");
        link.shape(Shape { passage, ..Shape::default() });
        assert_eq!(echo(&mut socket, "two", SILENCE).await, "");
        link.heal();
        let ended = timeout(PATIENCE, socket.read(&mut [0; 8])).await.unwrap();
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
}

#[tokio::test]
async fn delay_and_slices_change_time_but_not_bytes() {
    let (link, mut socket) = linked().await;
    let delay = Duration::from_millis(80);
    link.shape(Shape { delay, sliced: true, ..Shape::default() });
    let began = Instant::now();
    let text = "a text that is longer than the part of a chunk that is cut into slices, by far";
    assert_eq!(echo(&mut socket, text, PATIENCE).await, text);
    assert!(began.elapsed() >= 2 * delay, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_narrow_link_takes_its_time() {
    let (link, mut socket) = linked().await;
    link.shape(Shape { rate: Some(1000), ..Shape::default() });
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(echo(&mut socket, &"x".repeat(100), PATIENCE).await.len(), 100);
    }
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_reset_ends_connections_and_lets_new_ones_in() {
    let (link, mut socket) = linked().await;
    let address = socket.peer_addr().unwrap();
    assert_eq!(echo(&mut socket, "one", PATIENCE).await, "one");
    link.reset();
    let ended = timeout(PATIENCE, socket.read(&mut [0; 8])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let mut socket = TcpStream::connect(address).await.unwrap();
    assert_eq!(echo(&mut socket, "two", PATIENCE).await, "two");
}

#[tokio::test]
async fn one_connection_ends_and_goes_elsewhere_and_the_others_stay() {
    let (link, mut first) = linked().await;
    let home = link.state.borrow().upstream;
    assert_eq!(echo(&mut first, "one", PATIENCE).await, "one");
    assert!(!link.end_one(home, 0), "the only one stays");
    let mut second = TcpStream::connect(link.address).await.unwrap();
    assert_eq!(echo(&mut second, "two", PATIENCE).await, "two");
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    link.lead_to(elsewhere.local_addr().unwrap());
    assert!(link.end_one(home, 0));
    let ended = timeout(PATIENCE, first.read(&mut [0])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "it has ended: {ended:?}");
    assert_eq!(echo(&mut second, "four", PATIENCE).await, "four");
    // The table is updated shortly after the sockets.
    let counted = async {
        while link.connections(home) != 1 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, counted).await.unwrap();
    let _again = TcpStream::connect(link.address).await.unwrap();
    timeout(PATIENCE, elsewhere.accept()).await.unwrap().unwrap();
}
