//! A broadcast server with tokio-tungstenite on one thread, after the chat example of its
//! repository: each client has a queue that is forwarded to its socket. Who does not keep up with
//! the queue's bound is closed.
//!
//! `/ws?channel=NAME` receives the publications of NAME; a frame `CHANNEL PAYLOAD` publishes.

use futures_channel::mpsc::{self, Receiver, Sender};
use futures_util::StreamExt;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::{Error, Message};

/// Publications that wait for one client: as many of 64 B as Corecast's `outbox_bytes_max` holds.
const CLIENT_MESSAGES_MAX: usize = 16_384;

const DEFAULT_PORT: u16 = 22070;

/// The queues of each channel's clients. A client that has gone leaves at the next publication.
#[derive(Default)]
struct Channels(RefCell<HashMap<String, Vec<Sender<Message>>>>);

impl Channels {
    fn subscribe(&self, name: &str) -> Receiver<Message> {
        let (sender, receiver) = mpsc::channel(CLIENT_MESSAGES_MAX);
        self.0.borrow_mut().entry(name.to_owned()).or_default().push(sender);
        receiver
    }

    fn publish(&self, name: &str, payload: &str) {
        let mut channels = self.0.borrow_mut();
        let Some(clients) = channels.get_mut(name) else { return };
        let message = Message::text(payload);
        clients.retain_mut(|client| client.try_send(message.clone()).is_ok());
        if clients.is_empty() {
            channels.remove(name);
        }
    }

    fn receive(&self, frame: &Message) {
        if let Message::Text(text) = frame
            && let Some((name, payload)) = text.split_once(' ')
        {
            self.publish(name, payload);
        }
    }
}

/// The value of `channel` in a query; without it a client only publishes.
fn channel_of(request: &Request) -> Option<&str> {
    request.uri().query()?.split('&').find_map(|pair| pair.strip_prefix("channel="))
}

async fn serve(stream: TcpStream, channels: Rc<Channels>) -> Result<(), Error> {
    // Subscribed before the upgrade is answered, so that nothing is missed after it.
    let mut publications = None;
    #[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
    let accepted = tokio_tungstenite::accept_hdr_async(stream, |request: &Request, response| {
        publications = channel_of(request).map(|name| channels.subscribe(name));
        Ok::<Response, _>(response)
    });
    let (sink, mut frames) = accepted.await?.split();
    let receiving = async {
        while let Some(frame) = frames.next().await {
            channels.receive(&frame?);
        }
        Ok(())
    };
    let Some(publications) = publications else { return receiving.await };
    tokio::select! {
        end = receiving => end,
        end = publications.map(Ok).forward(sink) => end,
    }
}

#[tokio::main(flavor = "local")]
async fn main() -> io::Result<()> {
    let port = match std::env::var("PORT") {
        Ok(port) => port.parse().map_err(io::Error::other)?,
        Err(_) => DEFAULT_PORT,
    };
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    let channels = Rc::new(Channels::default());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let channels = Rc::clone(&channels);
        // A connection that fails ends alone.
        tokio::task::spawn_local(async move { drop(serve(stream, channels).await) });
    }
}
