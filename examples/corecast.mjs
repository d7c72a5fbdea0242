// Follows channels of Corecast with WebSocket alone, and loses no message that their histories
// contain. For browsers, Node 22 and later, and Node 20 with the package `ws`.
//
//     import { follow } from "./corecast.mjs";
//
//     const following = follow("ws://127.0.0.1:8000/ws", { news: "" }, {
//       message(channel, data, position) { console.log(data); },
//       gap(channel) { console.log("messages were missed: reload the present state"); },
//     });
//
// Channels are the keys of an object. The value is the position to continue from, which is a text
// from this module, or "" to begin with the next message.
//
// Handlers, all optional:
//
//     begin(channel, position)           the channel is subscribed, and goes on after this position
//     message(channel, data, position)   each message once, in order
//     gap(channel, gap)                  messages were missed, and the server no longer has them
//     open()                             a connection is open
//     closed(code, reason, wait)         it has ended; a new one starts in `wait` milliseconds,
//                                        or never if the server has refused (undefined)
//
// Options: `WebSocket`, a constructor, if there is no global one; `last`, the number of latest
// messages to begin with in channels without a position; `retryMin` and `retryMax` in milliseconds;
// `patience`, the delay in milliseconds after which a silent connection counts as dead.

const RETRY_MIN = 500;
const RETRY_MAX = 30_000;
const OPEN_TIMEOUT = 10_000; // The server answers within 3 s.
const PATIENCE = 10_000;
const STEADY_TIME = 10_000; // After this time the next pause is short again.
const HEAD_BYTES_MAX = 7_000; // The server accepts 8 KiB, including headers.
const POSITION_BYTES_MAX = 40;

/** Whether a close code means that a new connection would end in the same way. */
export function isFinal(code) {
  const ours = code >= 3500 && code < 4000; // Corecast's
  const applications = code >= 4500 && code < 5000;
  return ours || applications || [1002, 1003, 1007, 1008, 1009].includes(code);
}

/** Follows channels until `close` of the result is called, or the server refuses for good. */
export function follow(url, channels, handlers = {}, options = {}) {
  const { WebSocket = globalThis.WebSocket, last = 0 } = options;
  const { retryMin = RETRY_MIN, retryMax = RETRY_MAX, patience = PATIENCE } = options;
  const positions = new Map(Object.entries(channels));
  const names = [...positions.keys()];
  const unfit = names.find((name) => name === "" || name.includes(","));
  if (unfit !== undefined) throw new RangeError(`a URL can't name the channel "${unfit}"`);
  const bytes = names.map((name) => 2 * encodeURIComponent(name).length + POSITION_BYTES_MAX);
  if (bytes.reduce((sum, one) => sum + one, url.length) > HEAD_BYTES_MAX) {
    throw new RangeError(`${names.length} channels do not fit into one URL: open two connections`);
  }
  let socket = null;
  let timer = null;
  let attempts = 0;

  function target() {
    const target = new URL(url);
    target.searchParams.set("channels", names.join(","));
    target.searchParams.set("envelope", "json");
    target.searchParams.set("heartbeat", "json");
    if (last > 0) target.searchParams.set("last", last);
    for (const [channel, position] of positions) {
      if (position) target.searchParams.append("since", `${channel}@${position}`);
    }
    return target.href;
  }

  function read(message) {
    const { channel, epoch, offset } = message;
    if (message.gap) return handlers.gap?.(channel, message.gap);
    const position = `${epoch}:${offset}`;
    // The application may have subscribed this connection to other channels.
    if (positions.has(channel)) positions.set(channel, position);
    if ("data" in message) return handlers.message?.(channel, message.data, position);
    return handlers.begin?.(channel, position);
  }

  function connect() {
    const mine = new WebSocket(target());
    let opened = Infinity;
    let silence; // The allowed silence, once the server has announced it.
    const giveUp = () => {
      mine.close(); // If the network is down, `onclose` may take minutes.
      mine.onclose({ code: 1006, reason: "the server is silent" });
    };
    timer = setTimeout(giveUp, OPEN_TIMEOUT);
    socket = mine;
    mine.onerror = () => {}; // `onclose` has all the details.
    mine.onopen = () => {
      clearTimeout(timer);
      opened = Date.now();
      if (socket === mine) handlers.open?.();
    };
    mine.onmessage = ({ data }) => {
      if (socket !== mine) return;
      const message = JSON.parse(data);
      if (message.ping) silence = message.ping * 1000 + patience;
      clearTimeout(timer);
      if (silence) timer = setTimeout(giveUp, silence);
      if (!message.ping) read(message);
    };
    mine.onclose = ({ code, reason }) => {
      if (socket !== mine) return; // `close` was called.
      clearTimeout(timer);
      socket = null;
      if (isFinal(code)) return handlers.closed?.(code, reason, undefined);
      attempts = Date.now() - opened >= STEADY_TIME ? 1 : attempts + 1;
      // The longer the server is down, the longer its clients wait on average.
      const most = Math.min(retryMax, retryMin * 2 ** attempts);
      const wait = retryMin + Math.random() * (most - retryMin);
      timer = setTimeout(connect, wait);
      handlers.closed?.(code, reason, wait);
    };
  }

  connect();
  return {
    /** The position of each channel, from which `follow` can continue. */
    get positions() {
      return Object.fromEntries(positions);
    },
    close() {
      const mine = socket;
      socket = null;
      clearTimeout(timer);
      mine?.close(1000);
    },
  };
}
