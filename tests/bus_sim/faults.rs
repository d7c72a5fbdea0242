//! Faults of a schedule: in Redis, connections, nodes and clients.

use std::time::Duration;

use corecast::limits::BUS_CHANNEL_TTL;

use super::log::log;
use super::store::{Refuses, Stream};
use super::world::World;

/// The worst kind of fault in a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Everything works, but slowly.
    Delays,
    /// Connections break, processes end, Redis hangs or refuses. No data is lost.
    Outages,
    /// Redis also loses data.
    Losses,
}

impl World {
    fn some_time(&self, most_millis: usize) -> Duration {
        Duration::from_millis(self.between(1, most_millis) as u64)
    }

    /// Causes one fault.
    pub fn fault(&mut self, trouble: Trouble) {
        match (trouble, self.below(100)) {
            (Trouble::Delays, _) => self.redis.delay_max = self.between(1, 100),
            (Trouble::Losses, 0..35) => self.lose(),
            _ => self.outage(),
        }
    }

    fn outage(&mut self) {
        let now = self.now();
        match self.below(100) {
            0..40 => {
                let links = self.redis.links();
                if links.is_empty() {
                    return;
                }
                let (link, silently) = (links[self.below(links.len())], self.chance(30));
                log(now, || format!("{link:?} is cut, silently {silently}"));
                self.redis.cut(link, silently);
            }
            40..50 => {
                let (seat, pause) = (self.below(self.seats.len()), self.some_time(5_000));
                if let Some(node) = &mut self.seats[seat].node {
                    log(now, || format!("node {seat} is stopped for {pause:?}"));
                    node.paused_until = now.after(pause);
                }
            }
            50..57 => {
                let (seat, away) = (self.below(self.seats.len()), self.some_time(2_000));
                self.kill(seat, away);
            }
            57..67 => {
                let time = self.some_time(4_500);
                log(now, || format!("Redis hangs for {time:?}"));
                self.redis.hang(now.after(time));
            }
            67..77 => {
                let all = [Refuses::Nothing, Refuses::Growth, Refuses::Writes, Refuses::WritesHere];
                let what = all[self.below(all.len())];
                log(now, || format!("Redis refuses {what:?}"));
                self.redis.refuse(what);
            }
            77..85 => self.redis.delay_max = self.between(1, 300),
            _ => {
                let client = self.below(self.clients.len());
                self.with_client(client, |client, stage| client.leave(stage));
            }
        }
    }

    /// Makes Redis lose data.
    fn lose(&mut self) {
        let now = self.now();
        let stream = self.below(self.redis.streams_count());
        match self.below(100) {
            0..45 => {
                let lost = match self.below(4) {
                    _ if self.redis.set_back => Some(0),
                    0 => None,
                    1 => Some(0),
                    _ => Some(self.between(1, 6)),
                };
                let (lingers, away) = (self.chance(40), self.some_time(1_000));
                log(now, || format!("Redis is replaced, lost {lost:?}, lingers {lingers}"));
                self.redis.replace(now, (lost, lingers), away);
            }
            45..49 => self.redis.end_old(),
            49..57 => {
                let links = self.redis.links();
                if links.is_empty() {
                    return;
                }
                let link = links[self.below(links.len())];
                let to = self.redis.move_link(link);
                log(now, || format!("{link:?} leads to server {to:?} from now on"));
            }
            57..65 => {
                let keep = self.below(3);
                log(now, || format!("stream {stream} is trimmed to {keep}"));
                self.redis.harm_one(stream, |stream| stream.trim(keep));
            }
            65..75 => {
                let from_end = self.below(3);
                log(now, || format!("entry {from_end} from the end of stream {stream} is gone"));
                self.redis.harm_one(stream, |stream| stream.delete_entry(from_end));
            }
            75..79 => {
                log(now, || format!("stream {stream} is deleted"));
                self.redis.harm_one(stream, Stream::delete);
            }
            79..82 => self.lose_places(),
            82..84 => {
                log(now, || format!("publishers of stream {stream} are forgotten"));
                self.redis.harm_one(stream, Stream::delete_publishers);
            }
            84..90 if !self.redis.set_back => {
                log(now, || format!("meta of stream {stream} is deleted"));
                self.redis.harm_one(stream, Stream::delete_meta);
            }
            90..96 if !self.redis.set_back => {
                log(now, || "FLUSHALL".to_owned());
                self.redis.harm(|stream| *stream = Stream::default());
            }
            _ => {
                let by = if self.chance(50) {
                    self.between(1, 20_000) as i64
                } else {
                    // Longer than a generation of places.
                    BUS_CHANNEL_TTL.as_millis() as i64 + self.between(0, 1_000_000) as i64
                };
                let back = self.chance(50) && !self.redis.broken;
                let by = if back { -by } else { by };
                log(now, || format!("the clock of Redis jumps by {by} ms"));
                self.redis.jump(by);
            }
        }
    }

    /// Makes Redis lose the place of one channel, or all places of a generation.
    fn lose_places(&mut self) {
        let now = self.now();
        if self.chance(70) {
            let channel = self.below(self.setup.node.channels.len());
            let name = self.setup.node.channels[channel].name.clone();
            log(now, || format!("the place of {name} is lost"));
            let stream = corecast::bus::stream_of(&name, self.setup.streams);
            self.redis.harm_one(stream, |stream| stream.places.lose(&name));
        } else {
            let stream = self.below(self.redis.streams_count());
            let (places, silent) = (self.chance(70), self.chance(50));
            log(now, || format!("places of stream {stream} are lost: {places} {silent}"));
            self.redis.harm_one(stream, |stream| stream.places.lose_hashes(places, silent));
        }
    }

    /// Ends the faults of Redis.
    pub fn calm_redis(&mut self) {
        let now = self.now();
        self.redis.hang(now);
        self.redis.refuse(Refuses::Nothing);
        self.redis.delay_max = 5;
    }
}
