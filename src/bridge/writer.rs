//! Makes the calls of the bus, on a connection of its own.

use std::rc::Rc;

use tokio::task::JoinSet;

use super::link::{Link, LinkError};
use super::{Backoff, Bridge, check};
use crate::bus::{self, AppendFailed, Call, Engine, EntryId, Outcome, Reply, Script};
use crate::limits::{BUS_CALL_TIMEOUT, BUS_TAIL_INTERVAL};

/// Connects, makes calls until the connection fails, and begins anew: for ever.
pub(super) async fn run(bridge: Rc<Bridge>) {
    let mut backoff = Backoff::new();
    loop {
        match Link::connect(&bridge.options.url, BUS_CALL_TIMEOUT).await {
            Ok(link) => {
                bridge.cells.connects.add(1);
                bridge.engine.borrow_mut().on_up();
                let reason = serve(&bridge, Rc::new(link), &mut backoff).await;
                bridge.with_engine(Engine::on_down);
                if backoff.is_worth_a_line() {
                    tracing::warn!(%reason, "Redis is away: nothing can be published");
                }
            }
            Err(error) if backoff.is_worth_a_line() => {
                tracing::warn!(place = %bridge.place, %error, "Redis can't be reached");
            }
            Err(_) => {}
        }
        backoff.pause().await;
    }
}

/// Makes calls on `link` until it fails; answers why.
async fn serve(bridge: &Rc<Bridge>, link: Rc<Link>, backoff: &mut Backoff) -> String {
    let mut calls = JoinSet::new();
    let mut checks = tokio::time::interval(BUS_TAIL_INTERVAL);
    loop {
        while let Some(call) = bridge.next_call() {
            calls.spawn_local(make(Rc::clone(bridge), Rc::clone(&link), call));
        }
        let failed = tokio::select! {
            Some(made) = calls.join_next() => match made {
                Ok((outcome, failed)) => {
                    let said = &outcome;
                    let unfit = matches!(said, Outcome::Fenced(..) | Outcome::Appended(_, Err(_)));
                    bridge.with_engine(|engine, _| engine.on_outcome(outcome));
                    if !unfit && failed.is_none() {
                        say_back(bridge, backoff);
                    }
                    failed
                }
                Err(error) => Some(error.to_string()),
            },
            () = bridge.work.notified() => None,
            // A peer that is gone without a word is noticed though nobody publishes.
            _ = checks.tick(), if calls.is_empty() => {
                let key = bridge.keys.config();
                let pong = link.call("EXISTS", &key, vec![key.clone()]).await;
                if pong.is_ok() {
                    say_back(bridge, backoff);
                }
                pong.err().map(|error| error.to_string())
            }
        };
        if let Some(reason) = failed {
            return reason;
        }
        if link.is_over() {
            return "the connection has ended".to_owned();
        }
    }
}

fn say_back(bridge: &Bridge, backoff: &mut Backoff) {
    if backoff.reset() {
        tracing::info!(place = %bridge.place, "Redis is back: publishing goes on");
    }
}

/// Makes one call; answers what became of it, and why the connection is of no use any more if so.
async fn make(bridge: Rc<Bridge>, link: Rc<Link>, call: Call) -> (Outcome, Option<String>) {
    let keys = &bridge.keys;
    match call {
        Call::Fence { stream, seen } => match fence(&bridge, &link, stream, seen).await {
            Ok(id) => (Outcome::Fenced(stream, Some(id)), None),
            Err(error) => (Outcome::Fenced(stream, None), Some(error.to_string())),
        },
        Call::Append(append) => {
            let stream = append.stream;
            let (names, args) = append.keys_and_args(keys, bridge.options.stream_bytes_max);
            let answer = link.script(Script::Append, names, args).await;
            let result = match &answer {
                Ok(reply) => append.answer(reply).ok_or(AppendFailed::Lost),
                Err(error) => Err(failure(error)),
            };
            let failed = match (&result, answer) {
                (Ok(_) | Err(AppendFailed::Fenced | AppendFailed::OutOfOrder), _) => None,
                (Err(AppendFailed::Refused(text)), _) => {
                    bridge.complain("Redis takes no publications", text);
                    None
                }
                (_, Err(error)) => Some(error.to_string()),
                (_, Ok(reply)) => Some(format!("an answer that is none: {reply:?}")),
            };
            (Outcome::Appended(stream, result), failed)
        }
        Call::Older(older) => {
            let (names, args) = older.keys_and_args(keys);
            let answer = link.script(Script::Older, names, args).await;
            let found = answer.as_ref().ok().and_then(|reply| older.answer((bridge.now)(), reply));
            let failed = question_failed(&bridge, older.stream, answer, found.is_some());
            (Outcome::Read(older.stream, found), failed)
        }
        Call::Tops(tops) => {
            let (names, args) = tops.keys_and_args(keys);
            let answer = link.script(Script::Tops, names, args).await;
            let stand = answer.as_ref().ok().and_then(|reply| tops.answer(reply));
            let failed = question_failed(&bridge, tops.stream, answer, stand.is_some());
            (Outcome::Located(tops.stream, stand), failed)
        }
    }
}

/// Why the connection is of no use any more after a question about `stream`, if so.
fn question_failed(
    bridge: &Bridge,
    stream: usize,
    answer: Result<Reply, LinkError>,
    understood: bool,
) -> Option<String> {
    match answer {
        Ok(_) if understood => None,
        Ok(reply) => Some(not_an_answer(&reply).to_string()),
        Err(error) if error.is("FENCED") => {
            bridge.engine.borrow_mut().set_unfenced(stream);
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

/// Takes a stream over on the server that `link` leads to; answers its last entry.
pub(super) async fn fence(
    bridge: &Bridge,
    link: &Link,
    stream: usize,
    seen: EntryId,
) -> Result<EntryId, LinkError> {
    let (names, args) = bus::fence_keys_and_args(&bridge.keys, stream, seen);
    let reply = link.script(Script::Fence, names, args).await;
    let reply = reply.map_err(|error| check::of_format(error, bridge.keys.prefix()))?;
    let id = match reply.list() {
        Some([epoch, number, _]) => epoch.number().zip(number.number()),
        _ => None,
    };
    let (epoch, number) = id.ok_or_else(|| not_an_answer(&reply))?;
    Ok(EntryId { epoch, number })
}

pub(super) fn not_an_answer(reply: &Reply) -> LinkError {
    LinkError::Lost(format!("an answer that is none: {reply:?}"))
}

fn failure(error: &LinkError) -> AppendFailed {
    let text = error.to_string();
    if error.is("FENCED") {
        AppendFailed::Fenced
    } else if error.is("OUTOFORDER") {
        AppendFailed::OutOfOrder
    } else if error.is_wrong_server() {
        // Of a connection that failed, nothing is known.
        if matches!(error, LinkError::Refused(_)) {
            AppendFailed::WrongServer(text)
        } else {
            AppendFailed::Lost
        }
    } else {
        // The script's first write failed, and another try would fail as well.
        AppendFailed::Refused(text)
    }
}
