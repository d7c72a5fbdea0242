// Visits pages with headless Chromium and opens a WebSocket from each:
//
//     node visits.mjs '[[PAGE_URL, WS_URL, [PROTOCOL]]]'
//
// Prints a JSON list: the subprotocol of each WebSocket that opened, and null for each that failed.
// The name evil.example leads to this host.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const SECONDS_MAX = 15_000;

const profile = await mkdtemp(join(tmpdir(), "corecast-chromium-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP evil.example 127.0.0.1",
  ],
});
const results = [];
try {
  const page = await context.newPage();
  for (const [pageUrl, wsUrl, protocols] of JSON.parse(process.argv[2])) {
    await page.goto(pageUrl, { timeout: SECONDS_MAX });
    // The page itself, or the frame in it.
    const visited = page.frames().at(-1);
    results.push(await visited.evaluate(([url, protocols]) => new Promise((resolve) => {
      const socket = new WebSocket(url, protocols);
      socket.onopen = () => resolve(socket.protocol);
      socket.onerror = () => resolve(null);
    }), [wsUrl, protocols]));
  }
} finally {
  await context.close();
  await rm(profile, { recursive: true, force: true });
}
console.log(JSON.stringify(results));
