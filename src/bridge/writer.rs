//! Makes the calls of the bus, on its own connection.

use std::rc::Rc;

use tokio::task::JoinSet;

use super::shell::Bus;
use crate::bus::{
    self, AppendFailed, Call, Engine, EntryId, Fenced, Outcome, Probe, Probed, Reply, Script,
};
use crate::limits::{BUS_CALL_TIMEOUT, RETRY_INTERVAL};
use crate::redis::{self, Backoff, Link, LinkError, not_an_answer};

/// Connects, makes calls until the connection fails, and starts over. Never returns.
pub(super) async fn run(bus: Rc<Bus>) {
    let mut backoff = Backoff::new();
    loop {
        match connect(&bus).await {
            Ok((link, masters)) => {
                bus.counters.connects.add(1);
                bus.with_engine(|engine, now| engine.on_up(now, masters));
                let reason = serve(&bus, Rc::new(link), &mut backoff).await;
                bus.standing.set_reason(&reason);
                bus.with_engine(Engine::on_down);
                if backoff.is_worth_a_line() {
                    tracing::warn!(%reason, "lost Redis: publications fail until it is reachable");
                }
            }
            Err(error) => {
                bus.standing.set_reason(&error.to_string());
                if backoff.is_worth_a_line() {
                    let address = bus.redis.address();
                    tracing::warn!(redis_address = %address, %error, "could not reach Redis");
                }
            }
        }
        backoff.pause().await;
    }
}

/// Returns a new connection, and the streams of each server behind it.
async fn connect(bus: &Bus) -> Result<(Link, Vec<Vec<usize>>), LinkError> {
    let link = bus.redis.connect(BUS_CALL_TIMEOUT).await?;
    let masters = link.masters(bus.redis.keys(), bus.settings.redis.streams).await?;
    Ok((link, masters))
}

/// Makes calls on `link` until it fails. Returns the reason.
async fn serve(bus: &Rc<Bus>, link: Rc<Link>, backoff: &mut Backoff) -> String {
    let mut calls = JoinSet::new();
    loop {
        if link.is_over() {
            return "the connection has ended".to_owned();
        }
        while let Some(call) = bus.next_call() {
            calls.spawn_local(make(Rc::clone(bus), Rc::clone(&link), call));
        }
        let failed = tokio::select! {
            Some(made) = calls.join_next() => match made {
                Ok(Made { outcome, failed }) => {
                    let refusal = refusal(&outcome).cloned();
                    // A fence does not show that Redis accepts publications again, because it also
                    // works where appends are refused.
                    let unfit = matches!(outcome, Outcome::Fenced(..)) || refusal.is_some();
                    bus.with_engine(|engine, now| engine.on_outcome(now, outcome));
                    if !unfit && failed.is_none() {
                        say_back(bus, backoff);
                    }
                    if failed.is_some() && matches!(refusal, Some(AppendFailed::WrongServer(_))) {
                        finish(bus, &mut calls).await;
                    }
                    failed
                }
                Err(error) => Some(error.to_string()),
            },
            () = bus.work() => None,
            () = link.given_up() => None,
        };
        if let Some(reason) = failed {
            return reason;
        }
    }
}

/// Waits a moment for the other calls after one was refused by a wrong server. Usually they are
/// refused as well, which proves that they appended nothing.
async fn finish(bus: &Bus, calls: &mut JoinSet<Made>) {
    let others = async {
        while let Some(Ok(Made { outcome, .. })) = calls.join_next().await {
            bus.with_engine(|engine, now| engine.on_outcome(now, outcome));
        }
    };
    tokio::time::timeout(RETRY_INTERVAL, others).await.unwrap_or_default();
}

/// Returns the error of an append or a probe that has failed.
fn refusal(outcome: &Outcome) -> Option<&AppendFailed> {
    match outcome {
        Outcome::Appended(_, Err(error)) | Outcome::Probed(_, Err(error)) => Some(error),
        _ => None,
    }
}

fn say_back(bus: &Bus, backoff: &mut Backoff) {
    if backoff.reset() {
        tracing::info!(redis_address = %bus.redis.address(), "publishing to Redis resumed");
    }
}

/// A call that has ended.
struct Made {
    outcome: Outcome,
    /// The reason why the connection can't be used any more, if there is one.
    failed: Option<String>,
}

async fn make(bus: Rc<Bus>, link: Rc<Link>, call: Call) -> Made {
    let keys = bus.redis.keys();
    let (outcome, failed) = match call {
        Call::Fence { stream, seen } => match fence(&bus, &link, stream, seen).await {
            Ok(fenced) => (Outcome::Fenced(stream, Some(fenced)), None),
            Err(error) => (Outcome::Fenced(stream, None), Some(error.to_string())),
        },
        Call::Append(append) => {
            let stream = append.stream;
            let (names, args) = append.keys_and_args(keys, bus.settings.redis.stream_bytes_max);
            let answer = link.script(Script::Append, names, args).await;
            let result = match &answer {
                Ok(reply) => append.answer(reply).ok_or(AppendFailed::Lost),
                Err(error) => Err(failure(error)),
            };
            let failed = append_failed(&bus, &result, answer);
            (Outcome::Appended(stream, result), failed)
        }
        Call::Older(older) => {
            let (names, args) = older.keys_and_args(keys);
            let answer = link.script(Script::Older, names, args).await;
            let found = answer.as_ref().ok().and_then(|reply| older.answer(bus.now(), reply));
            let failed = question_failed(&bus, older.stream, answer, found.as_ref());
            (Outcome::Read(older.stream, found), failed)
        }
        Call::Tops(tops) => {
            let (names, args) = tops.keys_and_args(keys);
            let answer = link.script(Script::Tops, names, args).await;
            let stand = answer.as_ref().ok().and_then(|reply| tops.answer(reply));
            let failed = question_failed(&bus, tops.stream, answer, stand.as_ref());
            (Outcome::Located(tops.stream, stand), failed)
        }
        Call::Probe(probe) => {
            let answer = link.script(Script::Probe, probe.keys(keys), Vec::new()).await;
            let result = match &answer {
                Ok(reply) => Probe::answer(reply).ok_or(AppendFailed::Lost).and_then(safe),
                Err(error) => Err(failure(error)),
            };
            let failed = append_failed(&bus, &result, answer);
            (Outcome::Probed(probe.stream, result), failed)
        }
    };
    Made { outcome, failed }
}

/// Treats a server as refusing if it may evict keys, because positions rely on them.
fn safe(probed: Probed) -> Result<Probed, AppendFailed> {
    redis::check_policy(&probed.policy).map_err(AppendFailed::Refused).map(|()| probed)
}

/// Returns why the connection can't be used any more after an append or a probe.
fn append_failed<T>(
    bus: &Bus,
    result: &Result<T, AppendFailed>,
    answer: Result<Reply, LinkError>,
) -> Option<String> {
    if let Err(AppendFailed::Refused(text) | AppendFailed::WrongServer(text)) = result {
        bus.standing.set_reason(text);
    }
    match (result, answer) {
        (Ok(_) | Err(AppendFailed::Fenced | AppendFailed::OutOfOrder), _) => None,
        (Err(AppendFailed::Refused(text)), _) => {
            bus.redis.complain("Redis accepts no publications", text);
            None
        }
        (_, Err(error)) => Some(error.to_string()),
        (_, Ok(reply)) => Some(format!("an invalid reply: {reply:?}")),
    }
}

/// Returns why the connection can't be used any more after another question about `stream`.
fn question_failed<T>(
    bus: &Bus,
    stream: usize,
    answer: Result<Reply, LinkError>,
    understood: Option<&T>,
) -> Option<String> {
    match answer {
        Ok(_) if understood.is_some() => None,
        Ok(reply) => Some(not_an_answer(&reply).to_string()),
        Err(error) if error.is("FENCED") => {
            bus.engine.borrow_mut().set_unfenced(stream);
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

/// Fences a stream on the server behind `link`.
pub(super) async fn fence(
    bus: &Bus,
    link: &Link,
    stream: usize,
    seen: EntryId,
) -> Result<Fenced, LinkError> {
    let keys = bus.redis.keys();
    let (names, args) = bus::fence_keys_and_args(keys, stream, seen);
    let reply = link.script(Script::Fence, names, args).await;
    let reply = reply.map_err(|error| redis::explain_format(error, keys.prefix()))?;
    let fenced = Fenced::answer(&reply).ok_or_else(|| not_an_answer(&reply))?;
    // A new epoch can mean that Redis was emptied, including the settings that nodes agree on.
    if seen.epoch != 0
        && fenced.id.epoch != seen.epoch
        && let Ok(Err(refusal)) = redis::agree(keys, bus.settings.redis.streams, link).await
    {
        // Another node has written the settings first, and they differ from this node's.
        bus.redis.complain("this node and another one have different settings", &refusal);
        return Err(LinkError::Refused(refusal));
    }
    Ok(fenced)
}

fn failure(error: &LinkError) -> AppendFailed {
    let text = error.to_string();
    if error.is("FENCED") {
        AppendFailed::Fenced
    } else if error.is("OUTOFORDER") {
        AppendFailed::OutOfOrder
    } else if error.is_wrong_server() {
        // If the connection failed, the batch may have been appended.
        if matches!(error, LinkError::Refused(_)) {
            AppendFailed::WrongServer(text)
        } else {
            AppendFailed::Lost
        }
    } else {
        // The first write of the script failed, and another attempt would fail as well.
        AppendFailed::Refused(text)
    }
}
