//! A publisher: it posts to one node after the other, notes what it was answered, and, if it is of
//! those that use idempotency keys, asks again where the answer leaves open what became of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use serde::Deserialize;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::history::{Outcome, Place, Publication, now};
use crate::http::{Failure, Http};
use crate::load::{Load, Phase, count};
use crate::wire::Payload;

/// Time for an answer. The promise is 4 s; a stopped node does not answer before it goes on.
const ANSWER_MAX: Duration = Duration::from_secs(12);

/// Most attempts with one idempotency key.
const ATTEMPTS_MAX: u16 = 6;

/// Pause before another attempt.
const PAUSE: Duration = Duration::from_millis(300);

/// One in so many publications goes to another node.
const MOVE_ONE_IN: u32 = 20;

/// Longest text that makes a payload longer.
const PADDING_BYTES_MAX: usize = 300;

/// One publisher.
pub(crate) struct Publisher {
    pub(crate) number: u16,
    /// Whether it uses idempotency keys, and so may ask again.
    pub(crate) keys: bool,
    load: Arc<Load>,
    random: Rng,
    node: usize,
    http: Http,
    record: Vec<Publication>,
}

#[derive(Deserialize)]
struct Reply {
    result: Option<Published>,
    error: Option<Error>,
}

#[derive(Deserialize)]
struct Published {
    offset: Option<u32>,
    epoch: Option<String>,
}

#[derive(Deserialize)]
struct Error {
    code: u32,
    message: String,
}

impl Publisher {
    pub(crate) fn new(number: u16, keys: bool, load: Arc<Load>, mut random: Rng) -> Publisher {
        let node = random.usize(..load.apis.len());
        let http = Http::new(load.apis[node]);
        Publisher { number, keys, load, random, node, http, record: Vec::new() }
    }

    /// Publishes every `period` until the load ends; answers with what became of it.
    pub(crate) async fn run(mut self, period: Duration) -> Vec<Publication> {
        let mut phase = self.load.phase.subscribe();
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        sleep(period.mul_f64(self.random.f64())).await;
        while *phase.borrow_and_update() == Phase::Load {
            ticks.tick().await;
            let channel = self.random.u16(..self.load.channels.len() as u16);
            if self.random.u32(..MOVE_ONE_IN) == 0 {
                self.move_on();
            }
            self.publish(channel).await;
        }
        self.record
    }

    /// Publishes once through `node`; answers how long that took, and what went wrong.
    pub(crate) async fn probe(&mut self, node: usize, channel: u16) -> (u64, Option<String>) {
        self.move_to(node);
        let began = now();
        let error = self.publish(channel).await;
        (now() - began, error)
    }

    /// What became of everything.
    pub(crate) fn into_record(self) -> Vec<Publication> {
        self.record
    }

    fn move_on(&mut self) {
        let node = self.random.usize(..self.load.apis.len());
        self.move_to(node);
    }

    fn move_to(&mut self, node: usize) {
        self.node = node;
        self.http = Http::new(self.load.apis[node]);
    }

    async fn publish(&mut self, channel: u16) -> Option<String> {
        let pid = self.load.next_pid();
        let body = self.body(pid, channel);
        let invoked = now();
        let (mut outcome, mut words) = self.attempt(&body).await;
        let mut attempts = 1;
        // A refusal after an attempt of unknown result says nothing about that one.
        while self.keys
            && attempts < ATTEMPTS_MAX
            && outcome == Outcome::Info
            && *self.load.phase.borrow() == Phase::Load
        {
            sleep(PAUSE).await;
            self.move_on();
            count(&self.load.counts.repeats);
            attempts += 1;
            let again = self.attempt(&body).await;
            if matches!(again.0, Outcome::Ok(_)) {
                (outcome, words) = again;
            }
        }
        let done = now();
        let counts = &self.load.counts;
        count(match outcome {
            Outcome::Ok(_) => &counts.ok,
            Outcome::Fail => &counts.fail,
            Outcome::Info => &counts.info,
        });
        let publisher = self.number;
        let known = Publication { pid, publisher, channel, invoked, done, outcome, attempts };
        self.record.push(known);
        words
    }

    fn body(&mut self, pid: u32, channel: u16) -> String {
        let pad = "x".repeat(self.random.usize(..PADDING_BYTES_MAX));
        let channel = &self.load.channels[usize::from(channel)];
        self.load.counts.bytes.fetch_add(pad.len() as u64, Ordering::Relaxed);
        let key = if self.keys { format!(",\"idempotency_key\":\"{pid}\"") } else { String::new() };
        let data = serde_json::to_string(&Payload { pid, pad }).unwrap_or_default();
        format!("{{\"channel\":\"{channel}\",\"data\":{data}{key}}}")
    }

    async fn attempt(&mut self, body: &str) -> (Outcome, Option<String>) {
        let began = now();
        let answer = self.http.post("/api/publish", body, ANSWER_MAX).await;
        let took = now() - began;
        self.load.counts.slowest.fetch_max(took, Ordering::Relaxed);
        match answer {
            Err(Failure::Unsent(error)) => {
                self.move_on();
                sleep(PAUSE).await;
                (Outcome::Fail, Some(error))
            }
            Err(Failure::Sent(error)) => (Outcome::Info, Some(error)),
            Ok((200, body)) => self.read(&body),
            // No other status comes after a publication has gone its way.
            Ok((status, body)) => {
                let text = String::from_utf8_lossy(&body);
                (Outcome::Fail, Some(format!("{status} {}", text.trim())))
            }
        }
    }

    fn read(&self, body: &[u8]) -> (Outcome, Option<String>) {
        match serde_json::from_slice(body) {
            Ok(Reply { result: Some(published), .. }) => {
                let place = published.epoch.zip(published.offset).map(|(epoch, offset)| Place {
                    epoch: self.load.epochs.number(&epoch),
                    offset,
                });
                (Outcome::Ok(place), None)
            }
            Ok(Reply { error: Some(error), .. }) => {
                let words = format!("{} {}", error.code, error.message);
                (outcome_of(&error), Some(words))
            }
            Ok(_) => (Outcome::Info, Some("neither result nor error".to_owned())),
            Err(error) => (Outcome::Info, Some(error.to_string())),
        }
    }
}

/// What an error says: 100 leaves it open, unless it says that the bus was not reached.
fn outcome_of(error: &Error) -> Outcome {
    let certain = error.code != 100 || error.message.contains("bus unavailable");
    if certain { Outcome::Fail } else { Outcome::Info }
}
