//! A broadcast server with tokio-tungstenite on one thread: a task for each connection, and tokio's
//! broadcast channel for each channel. Who falls behind by more than it holds is closed.
//!
//! `/ws?channel=NAME` receives the publications of NAME; a frame `CHANNEL PAYLOAD` publishes.

use futures_util::{SinkExt, StreamExt};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, Receiver, Sender};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::{Error, Message};

/// Publications that are held for whoever has not sent them on yet.
const CHANNEL_MESSAGES_MAX: usize = 256;

const DEFAULT_PORT: u16 = 22070;

/// The channels that somebody receives.
#[derive(Default)]
struct Channels(RefCell<HashMap<String, Sender<Message>>>);

impl Channels {
    fn subscribe(&self, name: &str) -> Receiver<Message> {
        let mut channels = self.0.borrow_mut();
        let sender = channels.entry(name.to_owned());
        sender.or_insert_with(|| broadcast::channel(CHANNEL_MESSAGES_MAX).0).subscribe()
    }

    fn publish(&self, name: &str, payload: &str) {
        let mut channels = self.0.borrow_mut();
        let Some(sender) = channels.get(name) else { return };
        if sender.send(Message::text(payload)).is_err() {
            channels.remove(name); // The last receiver has gone.
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
    let (mut sink, mut frames) = accepted.await?.split();
    let Some(mut publications) = publications else {
        while let Some(frame) = frames.next().await {
            receive(&frame?, &channels);
        }
        return Ok(());
    };
    loop {
        tokio::select! {
            publication = publications.recv() => match publication {
                Ok(message) => sink.send(message).await?,
                Err(_) => return sink.close().await,
            },
            frame = frames.next() => match frame {
                Some(frame) => receive(&frame?, &channels),
                None => return Ok(()),
            },
        }
    }
}

fn receive(frame: &Message, channels: &Channels) {
    if let Message::Text(text) = frame
        && let Some((name, payload)) = text.split_once(' ')
    {
        channels.publish(name, payload);
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
