//! A publisher. It posts to changing nodes and records the answers. With idempotency keys, it
//! repeats requests whose result is unknown.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::history::{Outcome, Place, Publication, now};
use crate::http::{Failure, Http};
use crate::load::{Load, Phase, count};
use crate::wire::Payload;

/// Timeout of an answer. The guarantee is 4 s, but a stopped node does not answer before it
/// continues.
const ANSWER_MAX: Duration = Duration::from_secs(12);

/// Maximum number of attempts with one idempotency key.
const ATTEMPTS_MAX: u16 = 6;

/// Pause before another attempt.
const PAUSE: Duration = Duration::from_millis(300);

/// One in this number of publications goes to another node.
const MOVE_ONE_IN: u32 = 20;

/// Maximum length of padding in a payload.
const PADDING_BYTES_MAX: usize = 300;

/// Maximum number of channels of a broadcast, or publications of a batch.
const TOGETHER_MAX: usize = 4;

/// The number of the publisher that tests whether everything works after the faults.
pub(crate) const PROBER: u16 = u16::MAX;

/// The way of publishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// One publication.
    Publish,
    /// The same data for several channels.
    Broadcast,
    /// Several publications in order.
    Batch,
}

impl Way {
    /// Returns the way for a publisher's number.
    fn of(number: u16) -> Way {
        match number / 2 % 3 {
            _ if number == PROBER => Way::Publish,
            1 => Way::Broadcast,
            2 => Way::Batch,
            _ => Way::Publish,
        }
    }

    fn path(self) -> &'static str {
        match self {
            Way::Publish => "/api/publish",
            Way::Broadcast => "/api/broadcast",
            Way::Batch => "/api/batch",
        }
    }
}

/// One publisher.
pub(crate) struct Publisher {
    pub(crate) number: u16,
    /// Whether it uses idempotency keys, and so may repeat requests.
    pub(crate) keys: bool,
    way: Way,
    load: Arc<Load>,
    random: Rng,
    node: usize,
    http: Http,
    record: Vec<Publication>,
}

/// The result of one publication, and the error message.
type Answer = (Outcome, Option<String>);

/// The answer for one publication, in any kind of response.
#[derive(Deserialize)]
struct Reply {
    #[serde(alias = "publish")]
    result: Option<Published>,
    error: Option<Error>,
}

/// The answer to a broadcast or a batch.
#[derive(Deserialize)]
struct Replies {
    result: Option<Responses>,
    replies: Option<Vec<Reply>>,
    error: Option<Error>,
}

#[derive(Deserialize)]
struct Responses {
    responses: Vec<Reply>,
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
        let way = Way::of(number);
        Publisher { number, keys, way, load, random, node, http, record: Vec::new() }
    }

    /// Publishes every `period` on average until the load ends. Returns its record.
    pub(crate) async fn run(mut self, period: Duration) -> Vec<Publication> {
        let mut phase = self.load.phase.subscribe();
        let period = match self.way {
            Way::Publish => period,
            Way::Broadcast | Way::Batch => period.mul_f64((TOGETHER_MAX + 1) as f64 / 2.0),
        };
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        sleep(period.mul_f64(self.random.f64())).await;
        while *phase.borrow_and_update() == Phase::Load {
            ticks.tick().await;
            let count = match self.way {
                Way::Publish => 1,
                Way::Broadcast | Way::Batch => self.random.usize(1..=TOGETHER_MAX),
            };
            let all = 0..self.load.channels.len() as u16;
            let channels = self.random.choose_multiple(all, count);
            if self.random.u32(..MOVE_ONE_IN) == 0 {
                self.move_on();
            }
            self.publish(&channels).await;
        }
        self.record
    }

    /// Publishes once through `node`. Returns the duration and the error, if there was one.
    pub(crate) async fn probe(&mut self, node: usize, channel: u16) -> (u64, Option<String>) {
        self.move_to(node);
        let began = now();
        let error = self.publish(&[channel]).await;
        (now() - began, error)
    }

    /// Returns its record.
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

    /// Publishes to each of `channels`. Returns the first error message.
    async fn publish(&mut self, channels: &[u16]) -> Option<String> {
        let first = self.load.next_pids(channels.len() as u32);
        let body = self.body(first, channels);
        let invoked = now();
        let mut answers = self.attempt(&body, channels.len()).await;
        let mut attempts = 1;
        while self.keys
            && attempts < ATTEMPTS_MAX
            && answers.iter().any(|(outcome, _)| *outcome == Outcome::Info)
            && *self.load.phase.borrow() == Phase::Load
        {
            sleep(PAUSE).await;
            self.move_on();
            count(&self.load.counts.repeats);
            attempts += 1;
            let again = self.attempt(&body, channels.len()).await;
            answers = answers.into_iter().zip(again).map(|(a, b)| joined(a, b)).collect();
        }
        let (done, publisher) = (now(), self.number);
        for (pid, (&channel, (outcome, _))) in (first..).zip(channels.iter().zip(&answers)) {
            let counts = &self.load.counts;
            count(match outcome {
                Outcome::Ok(_) => &counts.ok,
                Outcome::Fail => &counts.fail,
                Outcome::Info => &counts.info,
            });
            let outcome = *outcome;
            let known = Publication { pid, publisher, channel, invoked, done, outcome, attempts };
            self.record.push(known);
        }
        answers.into_iter().find_map(|(_, words)| words)
    }

    fn body(&mut self, first: u32, channels: &[u16]) -> String {
        let names: Vec<&str> =
            channels.iter().map(|&channel| &*self.load.channels[usize::from(channel)]).collect();
        let keys = self.keys;
        let keyed = |mut request: Value, pid: u32| {
            if keys {
                request["idempotency_key"] = pid.to_string().into();
            }
            request
        };
        let mut data = |pid: u32, of: Vec<u16>| {
            let pad = "x".repeat(self.random.usize(..PADDING_BYTES_MAX));
            self.load.counts.bytes.fetch_add(pad.len() as u64, Ordering::Relaxed);
            Payload { pid, of, pad }
        };
        let body = match self.way {
            Way::Publish => {
                let data = data(first, Vec::new());
                keyed(json!({"channel": names[0], "data": data}), first)
            }
            Way::Broadcast => {
                let data = data(first, channels.to_vec());
                keyed(json!({"channels": names, "data": data}), first)
            }
            Way::Batch => {
                let commands = (first..).zip(&names).map(|(pid, name)| {
                    let data = data(pid, Vec::new());
                    json!({"publish": keyed(json!({"channel": name, "data": data}), pid)})
                });
                json!({"commands": commands.collect::<Vec<_>>()})
            }
        };
        body.to_string()
    }

    /// Sends one request. Returns an answer for each of `many` publications.
    async fn attempt(&mut self, body: &str, many: usize) -> Vec<Answer> {
        let began = now();
        let answer = self.http.post(self.way.path(), body, ANSWER_MAX).await;
        let took = now() - began;
        self.load.counts.slowest.fetch_max(took, Ordering::Relaxed);
        let all = |outcome: Outcome, words: String| vec![(outcome, Some(words)); many];
        match answer {
            Err(Failure::Unsent(error)) => {
                self.move_on();
                sleep(PAUSE).await;
                all(Outcome::Fail, error)
            }
            Err(Failure::Sent(error)) => all(Outcome::Info, error),
            Ok((200, body)) => match self.read(&body) {
                Ok(answers) if answers.len() == many => answers,
                Ok(answers) => all(Outcome::Info, format!("{} answers to {many}", answers.len())),
                Err((outcome, words)) => all(outcome, words),
            },
            // No other status is possible once a publication has been accepted.
            Ok((status, body)) => {
                let text = String::from_utf8_lossy(&body);
                all(Outcome::Fail, format!("{status} {}", text.trim()))
            }
        }
    }

    /// Parses the answer for each publication, or an error for all of them.
    fn read(&self, body: &[u8]) -> Result<Vec<Answer>, (Outcome, String)> {
        let odd = |error: serde_json::Error| (Outcome::Info, error.to_string());
        if self.way == Way::Publish {
            return Ok(vec![self.read_one(serde_json::from_slice(body).map_err(odd)?)]);
        }
        let replies: Replies = serde_json::from_slice(body).map_err(odd)?;
        if let Some(error) = replies.error {
            return Err((outcome_of(&error), format!("{} {}", error.code, error.message)));
        }
        let all = replies.replies.or(replies.result.map(|result| result.responses));
        let all = all.ok_or((Outcome::Info, "no replies".to_owned()))?;
        Ok(all.into_iter().map(|reply| self.read_one(reply)).collect())
    }

    fn read_one(&self, reply: Reply) -> Answer {
        match reply {
            Reply { result: Some(published), .. } => {
                let place = published.epoch.zip(published.offset).map(|(epoch, offset)| Place {
                    epoch: self.load.epochs.number(&epoch),
                    offset,
                });
                (Outcome::Ok(place), None)
            }
            Reply { error: Some(error), .. } => {
                let words = format!("{} {}", error.code, error.message);
                (outcome_of(&error), Some(words))
            }
            Reply { .. } => (Outcome::Info, Some("neither result nor error".to_owned())),
        }
    }
}

/// Returns the result after a repeated attempt with the same key. A refusal says nothing about an
/// earlier attempt with an unknown result.
fn joined(before: Answer, after: Answer) -> Answer {
    match (before.0, after.0) {
        (Outcome::Ok(_), _) | (Outcome::Info, Outcome::Fail) => before,
        (Outcome::Info | Outcome::Fail, _) => after,
    }
}

/// Returns the result of an error. With code 100 it is unknown, unless the bus was not reached.
fn outcome_of(error: &Error) -> Outcome {
    let certain = error.code != 100 || error.message.contains("bus unavailable");
    if certain { Outcome::Fail } else { Outcome::Info }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    fn publisher(number: u16) -> Publisher {
        let at = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 1))];
        let names = ["check:0", "check:1", "kept:2"].map(str::to_owned).to_vec();
        let load = Arc::new(Load::new((at.clone(), at), names));
        Publisher::new(number, true, load, Rng::with_seed(1))
    }

    #[test]
    fn every_way_has_its_answers() {
        let ok = r#"{"offset":4,"epoch":"e"}"#;
        let no = r#"{"code":102,"message":"unknown channel"}"#;
        for (number, body) in [
            (0, format!(r#"{{"result":{ok}}}"#)),
            (2, format!(r#"{{"result":{{"responses":[{{"result":{ok}}},{{"error":{no}}}]}}}}"#)),
            (4, format!(r#"{{"replies":[{{"publish":{ok}}},{{"error":{no}}}]}}"#)),
        ] {
            let answers = publisher(number).read(body.as_bytes()).unwrap();
            let place = Place { epoch: 0, offset: 4 };
            assert_eq!(answers[0], (Outcome::Ok(Some(place)), None), "{number}");
            assert!(answers.iter().skip(1).all(|(outcome, _)| *outcome == Outcome::Fail));
        }
        let refused = publisher(4).read(br#"{"error":{"code":100,"message":"result unknown"}}"#);
        assert_eq!(refused.unwrap_err().0, Outcome::Info);
    }

    #[test]
    fn every_publication_has_its_number() {
        let read = |body: &str| serde_json::from_str::<serde_json::Value>(body).unwrap();
        let broadcast = read(&publisher(2).body(7, &[0, 2]));
        assert_eq!(broadcast["channels"], json!(["check:0", "kept:2"]));
        assert_eq!(broadcast["data"]["of"], json!([0, 2]));
        let batch = read(&publisher(4).body(7, &[0, 2]));
        assert_eq!(batch["commands"][1]["publish"]["data"]["pid"], 8);
        assert_eq!(batch["commands"][1]["publish"]["idempotency_key"], "8");
    }

    #[test]
    fn a_refusal_after_a_silence_says_nothing() {
        let silence = (Outcome::Info, None);
        assert_eq!(joined(silence.clone(), (Outcome::Fail, None)).0, Outcome::Info);
        let ok = Outcome::Ok(None);
        assert_eq!(joined(silence.clone(), (ok, None)).0, ok);
        assert_eq!(joined((ok, None), silence.clone()).0, ok);
        assert_eq!(joined((Outcome::Fail, None), silence).0, Outcome::Info);
    }
}
