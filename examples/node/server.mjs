// A Node.js application that uses Corecast. It handles no WebSockets itself: browsers connect to
// Corecast, and the application publishes over HTTP.
//
//     PORT                where this application listens         8080
//     CORECAST_API_URL    where the application publishes        http://127.0.0.1:9000
//     CORECAST_API_KEY    a key of the API, if it needs one
//     CORECAST_WS_URL     where browsers connect                 ws://127.0.0.1:8000

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";

const PORT = Number(process.env.PORT ?? 8080);
const API_URL = process.env.CORECAST_API_URL ?? "http://127.0.0.1:9000";
const API_KEY = process.env.CORECAST_API_KEY ?? "";
const WS_URL = process.env.CORECAST_WS_URL ?? "ws://127.0.0.1:8000";
const CHANNEL = "news";
const BODY_BYTES_MAX = 64 * 1024;

const page = (await readFile(new URL("page.html", import.meta.url), "utf8"))
  .replace("{{url}}", `${WS_URL}/connection/websocket`)
  .replace("{{channel}}", CHANNEL);
const sdk = await readFile(
  new URL("node_modules/centrifuge/dist/centrifuge.js", import.meta.url));

/** Publishes `data`, and returns its position: { offset, epoch }. */
async function publish(channel, data) {
  const response = await fetch(`${API_URL}/api/publish`, {
    method: "POST",
    headers: { "x-api-key": API_KEY },
    body: JSON.stringify({ channel, data }),
    signal: AbortSignal.timeout(10_000),
  });
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  const { result, error } = await response.json(); // Errors come in the body, with status 200.
  if (error) throw new Error(`${error.message} (${error.code})`);
  return result;
}

/** Reads the body of a request as JSON; undefined if it is too long or malformed. */
async function readJson(request) {
  let text = "";
  for await (const piece of request.setEncoding("utf8")) {
    text += piece;
    if (text.length > BODY_BYTES_MAX) return undefined;
  }
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function answer(request, respond) {
  switch (`${request.method} ${request.url}`) {
    case "GET /":
      return respond(200, "text/html; charset=utf-8", page);
    case "GET /centrifuge.js":
      return respond(200, "text/javascript", sdk);
    case "POST /publish": {
      const message = await readJson(request);
      if (typeof message?.text !== "string") {
        return respond(422, "text/plain", "text is missing\n");
      }
      const position = await publish(CHANNEL, { text: message.text });
      return respond(200, "application/json", JSON.stringify(position));
    }
    default:
      return respond(404, "text/plain", "not found\n");
  }
}

const server = createServer((request, response) => {
  const respond = (status, type, body) =>
    response.writeHead(status, { "content-type": type }).end(body);
  answer(request, respond).catch((error) =>
    respond(502, "text/plain", `not published: ${error.message}\n`));
});
server.listen(PORT, "127.0.0.1", () => console.log(`http://127.0.0.1:${PORT}`));
