// Runs `examples/corecast.mjs` in Node:
//
//     node follow.mjs SCENARIO [WS_URL JSON]
//
// `follow` follows the channels {"channel": position} until each has had a message with n = "end",
// and prints a line of JSON for everything that it is told. `resume` begins at each position of
// {"channel": {"positions": […], "top": offset}} in a connection of its own, and prints as JSON
// which offsets came in each. `pauses` needs no server: it checks when the module comes back, and
// whether.

import assert from "node:assert/strict";
import WebSocket from "ws";
import { follow, isFinal } from "../../../examples/corecast.mjs";

const [scenario, url, json] = process.argv.slice(2);
const offsetOf = (position) => Number(position.split(":")[1]);
const fast = { WebSocket, retryMin: 1, retryMax: 4, patience: 500 };
const say = (event) => console.log(JSON.stringify(event));

const scenarios = {
  async follow({ channels, last }) {
    const ended = new Set();
    const following = follow(url, channels, {
      open: () => say({ open: true }),
      begin: (channel, position) => say({ begin: channel, position }),
      gap: (channel, gap) => say({ gap: channel, ...gap }),
      closed: (code, reason, wait) => say({ closed: code, reason, final: wait === undefined }),
      message(channel, data, position) {
        say({ message: channel, n: data.n, position });
        if (data.n === "end") ended.add(channel);
        if (ended.size === Object.keys(channels).length) {
          following.close();
          say({ positions: following.positions });
        }
      },
    }, { ...fast, last });
  },

  async resume(channels) {
    const results = {};
    for (const [channel, { positions, top }] of Object.entries(channels)) {
      results[channel] = {};
      for (const start of positions) {
        results[channel][start] = await resumed(channel, start, top);
      }
    }
    say(results);
  },

  async pauses() {
    const sockets = [];
    class Fake {
      constructor(url) {
        this.url = url;
        sockets.push(this);
      }
      close() { this.closed = true; }
    }
    const pauses = [];
    const closed = (code, reason, wait) => pauses.push(wait);
    const options = { WebSocket: Fake, retryMin: 1, retryMax: 64 };
    const client = follow("ws://h/ws?token=1", { "a@b": "e:7", c: "" }, { closed }, options);
    const query = new URL(sockets[0].url).searchParams;
    assert.equal(query.get("channels"), "a@b,c");
    assert.deepEqual(query.getAll("since"), ["a@b@e:7"]);
    assert.equal(query.get("token"), "1", "what the URL has stays");
    for (let n = 0; n < 40; n += 1) {
      const count = sockets.length;
      sockets.at(-1).onclose({ code: 1006, reason: "" });
      while (sockets.length === count) await new Promise((done) => setTimeout(done, 1));
    }
    assert.ok(pauses.every((wait, n) => wait >= 1 && wait <= Math.min(64, 2 ** (n + 1))), pauses);
    assert.ok(pauses.slice(0, 3).every((wait) => wait <= 8), "short ones come first");
    assert.ok(Math.max(...pauses) > 8, "they grow");
    assert.ok(new Set(pauses).size > 30, "and differ");
    for (const code of [1000, 1001, 1006, 1012, 1013, 3001, 3008, 3010, 3012, 4000, 4499]) {
      assert.ok(!isFinal(code), code);
    }
    for (const code of [1002, 1009, 3500, 3501, 3507, 3999, 4500, 4999]) {
      assert.ok(isFinal(code), code);
    }
    const count = sockets.length;
    sockets.at(-1).onclose({ code: 3507, reason: "permission denied" });
    assert.equal(pauses.at(-1), undefined);
    await new Promise((done) => setTimeout(done, 200));
    assert.equal(sockets.length, count, "it stays away");
    client.close();
    const many = Object.fromEntries([...Array(200)].map((_, n) => [`a-long-name-${n}`, ""]));
    assert.throws(() => follow("ws://h/ws", many, {}, options), RangeError);
    for (const name of ["", "a,b"]) { // A query can't name them.
      assert.throws(() => follow("ws://h/ws", { [name]: "" }, {}, options), RangeError);
    }
    say("fine");
  },
};

function resumed(channel, start, top) {
  if (offsetOf(start) === top) return Promise.resolve([]);
  return new Promise((done) => {
    const offsets = [];
    const following = follow(url, { [channel]: start }, {
      gap: () => offsets.push("gap"),
      message(_, data, position) {
        offsets.push(offsetOf(position));
        if (offsetOf(position) >= top) {
          following.close();
          done(offsets);
        }
      },
    }, fast);
  });
}

await scenarios[scenario](json && JSON.parse(json));
