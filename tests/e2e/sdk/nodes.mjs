// Follows one channel with `centrifuge`, the JavaScript SDK, whatever happens to the servers:
//
//     node nodes.mjs WS_URL CHANNEL LAST
//
// Prints READY when it is subscribed, and when a publication with n = LAST has come one line of
// JSON: the numbers, how each subscription began, and the codes with which they were taken away.

import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

const [wsUrl, channel, last] = process.argv.slice(2);
const numbers = [];
const offsets = [];
const subscribed = [];
const subscribing = [];
const errors = [];

const client = new Centrifuge(wsUrl, {
  websocket: WebSocket, minReconnectDelay: 50, maxReconnectDelay: 500,
});
const subscription = client.newSubscription(channel, {
  minResubscribeDelay: 50, maxResubscribeDelay: 500,
});
subscription.on("subscribing", ({ code }) => subscribing.push(code));
subscription.on("subscribed", ({ wasRecovering, recovered }) => {
  subscribed.push({ wasRecovering, recovered });
  if (subscribed.length === 1) console.log("READY");
});
subscription.on("unsubscribed", ({ code }) => errors.push(`unsubscribed ${code}`));
client.on("disconnected", ({ code }) => errors.push(`disconnected ${code}`));
subscription.on("publication", ({ data, offset }) => {
  numbers.push(data.n);
  offsets.push(offset);
  if (data.n === Number(last)) {
    console.log(JSON.stringify({ numbers, offsets, subscribed, subscribing, errors }));
    process.exit(0);
  }
});
subscription.subscribe();
client.connect();
