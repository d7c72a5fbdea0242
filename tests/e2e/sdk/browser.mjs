// Drives headless Chromium through a page:
//
//     node browser.mjs PAGE_URL SCREENSHOT MESSAGE SCENARIO
//
// SCENARIO `admin` clicks through the page of the API port; `example` waits for MESSAGE and then
// for MESSAGE and "again" on the page of the example application, once each; `restart` does the
// same while the server may be away; `mistakes` makes a newcomer's mistakes on a phone, and prints
// DEAD and BACK when the server should go and return.
// Exit status 0 is success.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [pageUrl, screenshot, message, scenario] = process.argv.slice(2);

const SECONDS_MAX = 15_000;

// A small phone.
const PHONE = { width: 360, height: 740 };

// Whether errors on the console are expected.
let quiet = false;

const scenarios = {
  async admin(page) {
    for (const id of [
      "channel", "subscribe", "message", "publish", "messages", "state", "numbers",
    ]) {
      assert.equal(await page.locator(`#${id}`).count(), 1, `the page has no #${id}`);
    }
    await page.fill("#channel", "browser");
    await page.click("#subscribe");
    const stateBefore = await page.textContent("#state");
    assert.ok(stateBefore.trim(), "the page says how it is connected");
    const numbersBefore = await page.textContent("#numbers");
    // The subscription may still be on its way: what is published meanwhile is not shown.
    await page.waitForTimeout(500);
    await page.fill("#message", message);
    await page.click("#publish");
    await page.waitForFunction(
      (text) => document.querySelector("#messages").textContent.includes(text),
      message, { timeout: SECONDS_MAX },
    );
    await page.fill("#message", `${message} again`);
    await page.click("#publish");
    await page.waitForFunction(
      (text) => document.querySelector("#messages").textContent.includes(text),
      `${message} again`, { timeout: SECONDS_MAX },
    );
    await page.waitForFunction(
      (text) => document.querySelector("#numbers").textContent !== text,
      numbersBefore, { timeout: SECONDS_MAX },
    );
    assert.ok((await page.textContent("#state")).trim());
  },

  async mistakes(page) {
    const says = (id, text) => page.waitForFunction(
      ([id, text]) => document.querySelector(id).textContent.includes(text),
      [id, text], { timeout: SECONDS_MAX },
    );
    const shot = (name) => page.screenshot({ path: screenshot.replace(".png", `-${name}.png`) });
    await says("#state", "connected");
    const width = () => page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(await width() <= PHONE.width, `${await width()} px do not fit a phone`);

    await page.fill("#channel", " ");
    for (const button of ["#subscribe", "#publish"]) {
      await page.click(button);
      await says("#problem", "Enter the name of a channel");
    }
    await page.fill("#channel", "chat:1");
    await page.fill("#message", "");
    await page.click("#publish");
    await says("#problem", "Enter a message");

    await page.fill("#message", message);
    await page.click("#publish");
    await says("#messages", "published to chat:1; subscribe to it");
    assert.equal(await page.textContent("#problem"), "");
    await shot("mistakes");
    await page.click("#subscribe");
    await says("#messages-title", "chat:1");
    // Published before the subscription: a tab that comes late sees the last messages.
    await says("#messages", "subscribed to chat:1");
    assert.ok(!(await page.textContent("#messages")).includes("back"), "nothing was missed");
    await page.waitForFunction(
      (text) => [...document.querySelectorAll("#messages span:not(.note)")]
        .some((line) => line.textContent === text), message, { timeout: SECONDS_MAX },
    );

    quiet = true; // The browser itself logs each refused connection.
    console.log("DEAD");
    await says("#state", "is it running?");
    await page.waitForSelector(".stale", { timeout: SECONDS_MAX });
    await says("#numbers-title", "does not respond");
    await page.click("#publish");
    await says("#problem", "Not published: no server at");
    assert.ok(await width() <= PHONE.width, `${await width()} px do not fit a phone`);
    await shot("dead");
    console.log("BACK");
    await says("#state", "connected");
    await page.click("#publish");
    await page.waitForFunction(() => !document.querySelector("#problem").textContent);
  },

  async example(page) {
    const lines = (texts) => page.waitForFunction(
      (texts) => [...document.querySelectorAll("#messages li")]
        .map((line) => line.textContent).join() === texts, texts.join(), { timeout: SECONDS_MAX },
    );
    console.log("OPEN");
    await lines([message]);
    console.log("SEEN");
    await lines([message, `${message} again`]);
  },

  async restart(page) {
    quiet = true; // The browser itself reports connections that are refused.
    await scenarios.example(page);
  },
};

const profile = await mkdtemp(join(tmpdir(), "corecast-chromium-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});
const problems = [];
let failure = null;
try {
  const page = await context.newPage();
  page.on("pageerror", (error) => problems.push(`error: ${error}`));
  page.on("console", (line) => {
    if (line.type() !== "error" || quiet) return;
    problems.push(`console: ${line.text()} ${line.location().url}`);
  });
  page.on("request", (request) => {
    const { hostname } = new URL(request.url());
    if (hostname !== "127.0.0.1") problems.push(`the page asks a stranger: ${request.url()}`);
  });
  if (scenario === "mistakes") await page.setViewportSize(PHONE);
  await page.goto(pageUrl, { timeout: SECONDS_MAX });
  try {
    await scenarios[scenario](page);
  } catch (error) {
    failure = error;
  }
  await page.screenshot({ path: screenshot });
} finally {
  await context.close();
  await rm(profile, { recursive: true, force: true });
}
if (failure) console.error(failure);
const serious = problems.filter((problem) => !problem.includes("favicon.ico"));
if (serious.length) console.error(serious.join("\n"));
process.exit(failure || serious.length ? 1 : 0);
