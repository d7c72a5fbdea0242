// Scenarios for `centrifuge`, the JavaScript SDK, under Node.js:
//
//     node centrifuge.mjs SCENARIO WS_URL API_URL PREFIX_OF_CHANNELS
//
// Exit status 0 is success. A scenario that needs the server changed under it prints READY and
// waits; whoever started it does the rest.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

const [scenario, wsUrl, apiUrl, prefix] = process.argv.slice(2);

async function api(method, payload) {
  const response = await fetch(`${apiUrl}/api/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(payload),
  });
  const body = await response.json();
  assert.ok(body.result, `${method}: ${JSON.stringify(body)}`);
  return body.result;
}

// Collects what one emitter says, so that a test can wait for the next event of a kind.
function listen(emitter, names) {
  const seen = Object.fromEntries(names.map((name) => [name, []]));
  const taken = Object.fromEntries(names.map((name) => [name, 0]));
  for (const name of names) emitter.on(name, (context) => seen[name].push(context));
  return {
    seen,
    async next(name, milliseconds = 8000) {
      const deadline = Date.now() + milliseconds;
      while (seen[name].length <= taken[name]) {
        assert.ok(Date.now() < deadline, `no '${name}' came; seen: ${JSON.stringify(seen)}`);
        await sleep(5);
      }
      return seen[name][taken[name]++];
    },
  };
}

function makeClient() {
  const client = new Centrifuge(wsUrl, { websocket: WebSocket });
  const events = listen(client, ["connecting", "connected", "disconnected", "error"]);
  return { client, events };
}

function makeSubscription(client, channel, options = {}) {
  const subscription = client.newSubscription(channel, options);
  const events = listen(subscription, [
    "subscribing", "subscribed", "unsubscribed", "publication", "error",
  ]);
  subscription.subscribe();
  return { subscription, events };
}

const numbers = (publications) => publications.map((publication) => publication.data.n);

const scenarios = {
  async basic() {
    const { client, events } = makeClient();
    client.connect();
    const connected = await events.next("connected");
    assert.ok(connected.client);

    const { subscription, events: sub } = makeSubscription(client, `${prefix}-basic`);
    const subscribed = await sub.next("subscribed");
    assert.equal(subscribed.recoverable, true);
    assert.ok(subscribed.streamPosition.epoch);

    await subscription.publish({ n: 1, text: "\u00e9\n\ud83d\ude00" });
    const own = await sub.next("publication");
    assert.deepEqual(own.data, { n: 1, text: "\u00e9\n\ud83d\ude00" });
    assert.equal(own.info.client, connected.client);
    await client.publish(`${prefix}-basic`, { n: 2 });
    await api("publish", { channel: `${prefix}-basic`, data: { n: 3 }, tags: { a: "b" } });
    assert.equal((await sub.next("publication")).offset, 2);
    assert.deepEqual((await sub.next("publication")).tags, { a: "b" });

    const history = await subscription.history({ limit: 10 });
    assert.deepEqual(numbers(history.publications), [1, 2, 3]);
    assert.equal(history.offset, 3);
    const page = await subscription.history({
      limit: 1, since: { offset: 1, epoch: history.epoch },
    });
    assert.deepEqual(numbers(page.publications), [2]);
    const newest = await subscription.history({ limit: 2, reverse: true });
    assert.deepEqual(numbers(newest.publications), [3, 2]);

    subscription.unsubscribe();
    await sub.next("unsubscribed");
    await api("publish", { channel: `${prefix}-basic`, data: { n: 4 } });
    await sleep(200);
    assert.equal(sub.seen.publication.length, 3);
    subscription.subscribe();
    await sub.next("subscribed");
    client.disconnect();
    assert.equal((await events.next("disconnected")).code, 0);
    assert.deepEqual(events.seen.error, []);
  },

  async batched() {
    const { client, events } = makeClient();
    const made = [];
    for (let n = 0; n < 50; n += 1) made.push(makeSubscription(client, `${prefix}-batched-${n}`));
    client.connect();
    await events.next("connected");
    for (const { events: sub } of made) await sub.next("subscribed");
    client.startBatching();
    const published = made.map(({ subscription }, n) => subscription.publish({ n }));
    client.stopBatching();
    await Promise.all(published);
    for (const [n, { events: sub }] of made.entries()) {
      assert.equal((await sub.next("publication")).data.n, n);
    }
    client.disconnect();
  },

  async order() {
    const { client, events } = makeClient();
    const { events: sub } = makeSubscription(client, `${prefix}-order`);
    client.connect();
    await events.next("connected");
    await sub.next("subscribed");
    for (let n = 0; n < 500; n += 1) {
      await api("publish", { channel: `${prefix}-order`, data: { n } });
    }
    for (let n = 0; n < 500; n += 1) assert.equal((await sub.next("publication")).data.n, n);
    client.disconnect();
  },

  // The connection is ended by the API, with a code after which clients come back.
  async recovery() {
    const { client, events } = makeClient();
    const { events: sub } = makeSubscription(client, `${prefix}-recovery`);
    client.connect();
    const { client: id } = await events.next("connected");
    await sub.next("subscribed");
    await api("publish", { channel: `${prefix}-recovery`, data: { n: 1 } });
    await sub.next("publication");

    await api("disconnect", {
      user: "", client: id, disconnect: { code: 4100, reason: "come back" },
    });
    await events.next("connecting"); // The first was connect() itself.
    const again = await events.next("connecting");
    assert.deepEqual([again.code, again.reason], [4100, "come back"]);
    for (let n = 2; n <= 20; n += 1) {
      await api("publish", { channel: `${prefix}-recovery`, data: { n } });
    }
    const subscribed = await sub.next("subscribed");
    assert.equal(subscribed.wasRecovering, true);
    assert.equal(subscribed.recovered, true);
    for (let n = 2; n <= 20; n += 1) assert.equal((await sub.next("publication")).data.n, n);
    await api("publish", { channel: `${prefix}-recovery`, data: { n: 21 } });
    assert.equal((await sub.next("publication")).offset, 21);
    assert.equal(sub.seen.publication.length, 21);
    client.disconnect();
  },

  async beyond_history() {
    const { client, events } = makeClient();
    const { events: sub } = makeSubscription(client, `${prefix}-beyond`);
    client.connect();
    const { client: id } = await events.next("connected");
    await sub.next("subscribed");
    await api("disconnect", {
      user: "", client: id, disconnect: { code: 4100, reason: "come back" },
    });
    await events.next("connecting");
    await events.next("connecting");
    const commands = [];
    for (let n = 1; n <= 150; n += 1) {
      commands.push({ publish: { channel: `${prefix}-beyond`, data: { n } } });
    }
    await fetch(`${apiUrl}/api/batch`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ commands }),
    });
    const subscribed = await sub.next("subscribed");
    assert.equal(subscribed.wasRecovering, true);
    assert.equal(subscribed.recovered, false);
    assert.equal(subscribed.streamPosition.offset, 150);
    assert.equal(sub.seen.publication.length, 0);
    client.disconnect();
  },

  async terminal() {
    const { client, events } = makeClient();
    client.connect();
    const { client: id } = await events.next("connected");
    await api("disconnect", { user: "", client: id });
    assert.equal((await events.next("disconnected")).code, 3503);
    await sleep(1500);
    assert.equal(events.seen.connected.length, 1, "it must not come back");
  },

  async unsubscribed() {
    const { client, events } = makeClient();
    const { events: sub } = makeSubscription(client, `${prefix}-unsubscribed`);
    client.connect();
    const { client: id } = await events.next("connected");
    await sub.next("subscribed");
    await api("unsubscribe", { user: "", client: id, channel: `${prefix}-unsubscribed` });
    assert.equal((await sub.next("unsubscribed")).code, 2000);
    assert.equal(client.state, "connected");
    client.disconnect();
  },

  async errors() {
    const { client, events } = makeClient();
    client.connect();
    await events.next("connected");
    const code = async (promise) => {
      try {
        await promise;
      } catch (error) {
        return error.code;
      }
      return null;
    };
    assert.equal(await code(client.rpc("method", {})), 108);
    assert.equal(await code(client.presence(`${prefix}-errors`)), 108);
    assert.equal(await code(client.presenceStats(`${prefix}-errors`)), 108);
    assert.equal(await code(client.publish("a".repeat(256), {})), 107);
    assert.equal(await code(client.history(`${prefix}-errors`, {
      limit: 1, since: { offset: 1, epoch: "other" },
    })), 112);
    const { events: sub } = makeSubscription(client, "a".repeat(256));
    assert.equal((await sub.next("unsubscribed")).code, 107);
    await client.send({});
    assert.equal((await events.next("disconnected")).code, 3508);
  },

  // No server without keys can check a token, so it accepts none.
  async token() {
    const { client, events } = makeClient();
    client.setToken("eyJh.e30.x");
    client.connect();
    assert.equal((await events.next("disconnected")).code, 3500);
    const { client: other } = makeClient();
    const { events: sub } = makeSubscription(other, `${prefix}-token`, { token: "eyJh.e30.x" });
    other.connect();
    assert.equal((await sub.next("unsubscribed")).code, 103);
    other.disconnect();
  },

  async protobuf() {
    const { Centrifuge: Protobuf } = await import("centrifuge/build/protobuf");
    const client = new Protobuf(wsUrl, { websocket: WebSocket });
    const events = listen(client, ["connecting", "disconnected"]);
    client.connect();
    assert.equal((await events.next("disconnected")).code, 3506);
    assert.equal(events.seen.connecting.length, 1, "it must not try again");
  },

  // The application subscribes the client, which has the subscription again after a cut.
  async server_side() {
    const { client } = makeClient();
    const events = listen(client, ["connected", "subscribed", "unsubscribed", "publication"]);
    const channel = `${prefix}-server-side`;
    client.connect();
    const { client: id } = await events.next("connected");
    await api("publish", { channel, data: { n: 0 } });
    await api("subscribe", { user: "", client: id, channel });
    const first = await events.next("subscribed");
    assert.equal(first.recoverable, true);
    assert.equal(first.streamPosition.offset, 1);
    await api("publish", { channel, data: { n: 1 } });
    assert.equal((await events.next("publication")).data.n, 1);

    await api("disconnect", {
      user: "", client: id, disconnect: { code: 4100, reason: "come back" },
    });
    for (let n = 2; n <= 20; n += 1) await api("publish", { channel, data: { n } });
    const again = await events.next("subscribed");
    assert.deepEqual([again.channel, again.wasRecovering, again.recovered], [channel, true, true]);
    for (let n = 2; n <= 20; n += 1) assert.equal((await events.next("publication")).data.n, n);
    await api("publish", { channel, data: { n: 21 } });
    assert.equal((await events.next("publication")).offset, 22);
    assert.deepEqual([events.seen.publication.length, events.seen.unsubscribed], [21, []]);
    client.disconnect();
  },

  // A server with short pings: who answers them stays.
  async idle() {
    const { client, events } = makeClient();
    const { events: sub } = makeSubscription(client, `${prefix}-idle`);
    client.connect();
    await events.next("connected");
    await sub.next("subscribed");
    await sleep(7000);
    await api("publish", { channel: `${prefix}-idle`, data: { n: 1 } });
    await sub.next("publication");
    assert.equal(events.seen.connected.length, 1);
    client.disconnect();
  },

  // The server ends in good order and a new one takes its place: other epoch, nothing recovered.
  async restart() {
    const { client, events } = makeClient();
    const { events: sub } = makeSubscription(client, `${prefix}-restart`);
    client.connect();
    await events.next("connected");
    const before = await sub.next("subscribed");
    await api("publish", { channel: `${prefix}-restart`, data: { n: 1 } });
    await sub.next("publication");
    await events.next("connecting");
    console.log("READY");
    assert.equal((await events.next("connecting")).code, 3001);
    await events.next("connected", 30000);
    const after = await sub.next("subscribed");
    assert.equal(after.wasRecovering, true);
    assert.equal(after.recovered, false);
    assert.notEqual(after.streamPosition.epoch, before.streamPosition.epoch);
    await api("publish", { channel: `${prefix}-restart`, data: { n: 2 } });
    assert.equal((await sub.next("publication")).data.n, 2);
    client.disconnect();
  },
};

await scenarios[scenario]();
process.exit(0);
