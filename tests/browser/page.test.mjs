// page.test.mjs - the page at /, as a browser has it.
import assert from "node:assert/strict";
import { readFileSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { Station, makeSong, startProxy, stop, stopAll, until } from "./station.mjs";

const require = createRequire(join(process.env.MODULES, "package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const WHOLE_RUN_MS = 120000;
const A_TEST_MS = 40000;
const FILES = ["", "page.css", "page.js", "draw.js", "player.js", "icon.svg"];
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; " +
  "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
mkdirSync(process.env.SCREENSHOTS, { recursive: true });

let browser;
const tests = [];
const test = (name, run) => tests.push({ name, run, lane: 0 });
/* One that has transmitters of its own, and so can run beside the others. */
const testAlone = (name, run) => tests.push({ name, run, lane: 1 });

/* A page at `url`. Its `trouble` is what should never be: errors, refused or failed requests. */
async function open(url, { dark = true, width = 1280, height = 860, may_fail = false } = {}) {
  const context = await browser.newContext({
    viewport: { width, height }, colorScheme: dark ? "dark" : "light", reducedMotion: "reduce" });
  const page = await context.newPage();
  page.setDefaultTimeout(20000);
  page.trouble = [];
  const blame = (text) => may_fail || page.trouble.push(text);
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && blame(message.text()));
  page.on("pageerror", (error) => page.trouble.push(String(error)));
  page.on("requestfailed", (request) => {
    // What the page itself gives up: the stream when it is stopped.
    if (!request.url().includes("/stream?")) blame(`${request.url()}: ${request.failure().errorText}`);
  });
  page.on("response", (response) => response.status() >= 400 && blame(`${response.status()} ${response.url()}`));
  await page.goto(url);
  await text(page, "#link", "Connected");
  return page;
}

async function close(page) {
  assert.deepEqual(page.trouble, []);
  await page.context().close();
}

const textOf = (page, selector) => page.locator(selector).first().textContent();

/* Wait until the element says so: a text, or what matches a pattern. */
async function text(page, selector, wanted) {
  return until(`${selector} says ${wanted}`, async () => {
    const found = (await textOf(page, selector)).trim();
    if (wanted instanceof RegExp ? wanted.test(found) : found === wanted) return found || true;
    throw new Error(found);
  });
}

const isLit = (page) => page.locator("#lamp.is-lit").count();
const place = (page) => page.evaluate(() => document.querySelector("audio").currentTime);
const shot = (page, name) => page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`), fullPage: true });

/* Until it plays on, from wherever it is now. */
async function plays(page) {
  const from = await place(page);
  await until("the sound goes on", async () => {
    const now = await place(page);
    return now > from + 0.3 || (now < from && now > 0.3);
  });
}

test("the files are few, small, and tell the browser to trust nothing else", async ({ station }) => {
  let bytes = 0;
  for (const file of FILES) {
    const answer = await fetch(station.url + file);
    assert.equal(answer.status, 200, file);
    assert.equal(answer.headers.get("content-security-policy"), POLICY);
    assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
    assert.equal(answer.headers.get("referrer-policy"), "no-referrer");
    assert.equal(answer.headers.get("cache-control"), "no-cache");
    const body = Buffer.from(await answer.arrayBuffer());
    const name = file || "index.html";
    assert.deepEqual(body, readFileSync(new URL(`../../web/${name}`, import.meta.url)), name);
    bytes += body.length;
    const head = await fetch(station.url + file, { method: "HEAD" });
    assert.equal(Number(head.headers.get("content-length")), body.length);
  }
  assert.ok(bytes < 60 * 1024, `${bytes} bytes`);
  assert.equal((await fetch(station.url, { method: "DELETE" })).status, 405);
  assert.equal((await fetch(`${station.url}page.cs`)).status, 404);
  assert.equal((await fetch(`${station.url}index.htm`)).status, 404);
});

test("it loads whole, without an error", async ({ station }) => {
  const page = await open(station.url);
  await text(page, "#station", station.name);
  await text(page, "#lamp-text", "On air");
  await text(page, "#origin", "Tone");
  await text(page, "#origin-for", /^\d+:\d\d$/);
  await text(page, "#peak-left", "\u221218.0");
  await text(page, "#encoder", "LAME");
  await text(page, '[data-f="ticks.lateness_us.p99"]', /\d ms$/);
  await text(page, "#uptime", /^\d+:\d\d$/);
  await text(page, "#legend", /Tone/);
  await text(page, "#log", /the transmitter started/);
  await text(page, "#addresses", new RegExp(`${station.url}stream`));
  await until("the title of the window has it", async () => (await page.title()) === `Tone \u00b7 ${station.name}`);
  assert.ok(await page.evaluate(() => performance.getEntriesByType("resource").every(({ name }) => name.startsWith(location.origin))));
  await close(page);
});

test("it plays, and stops downloading when it is stopped", async ({ station }) => {
  const page = await open(station.url);
  assert.equal(await page.locator("audio").getAttribute("src"), null);
  await page.click("#play");
  await text(page, "#player-state", "Playing");
  await plays(page);
  await until("there is a listener", async () => (await station.status()).listeners.current === 1);
  await text(page, '[data-f="listeners.current"]', "1");
  await text(page, "#track-listeners", "1");
  await page.locator("#volume").fill("25");
  assert.ok((await page.evaluate(() => document.querySelector("audio").volume)) < 0.26);
  await page.click("#play");
  await text(page, "#player-state", "Listen");
  await until("there is none", async () => (await station.status()).listeners.current === 0);
  await close(page);
});

test("the lamp, the strip and the log follow a producer", async ({ station }) => {
  const page = await open(station.url);
  await text(page, "#origin", "Tone");
  const feeder = station.feed("mock:noise");
  await text(page, "#origin", "Live");
  assert.ok(await isLit(page));
  assert.equal(await page.locator("body").getAttribute("data-origin"), "live");
  await text(page, "#spoken", /^On air: Live/);
  await text(page, "#producers", new RegExp(`on air \u00b7 \\d+:\\d\\d.*pid ${feeder.pid}`));
  await text(page, "#track-origin", /^Live, peak/);
  await text(page, "#log", /on air: live/);
  await stop(feeder);
  await text(page, "#origin", "Tone");
  await text(page, "#producers", "None is connected.");
  await text(page, "#log", /on air: tone.*producer \d+.*pid \d+\) left.*on air: live.*connected/);
  await close(page);
});

testAlone("it shows who is on air, who waits and who was chosen by hand", async () => {
  const station = await new Station({ name: "Radio Havn 98.4" }).start();
  const page = await open(station.url);
  const listed = (...wanted) => until(`these are listed: ${wanted}`, async () => {
    const all = await page.locator("#producers li").allTextContents();
    if (all.length === wanted.length && wanted.every((each, i) => each.test(all[i]))) return true;
    throw new Error(all.join(" | "));
  });
  await text(page, "#producers", "None is connected.");
  const list = station.feed("mock:tone", "--name", "playlist", "--title", "Northern Line");
  await listed(/^playliston air \u00b7 \d+:\d\d#1 \u00b7 pid \d+$/);
  const live = station.feed("mock:noise", "--name", "live");
  await listed(/^liveon air \u00b7 \d+:\d\d#2 \u00b7 pid \d+$/, /^playlistwaits \u00b7 \d+:\d\d#1 \u00b7 pid \d+$/);
  await text(page, "#why", "The producer live feeds the stream.");
  await text(page, "#spoken", "On air: Live, live");
  await text(page, "#log", /live \(producer 2\) is on air, by rank/);
  await station.choose("playlist");
  await listed(/^playliston air.*chosen by hand$/, /^livewaits/);
  await text(page, "#why", "The producer playlist feeds the stream, chosen by hand.");
  await text(page, "#spoken", "On air: Live, playlist");
  await text(page, "#log", /playlist \(producer 1\) is on air, chosen by hand/);
  assert.equal(await page.locator("#producers").getAttribute("aria-labelledby"), "producers-name");
  for (const [name, dark, width] of [["dark", true, 1280], ["light", false, 1280], ["phone-dark", true, 390], ["phone-light", false, 320]]) {
    const look = await open(station.url, { dark, width });
    await text(look, "#producers", /chosen by hand/);
    await shot(look, `producers-${name}`);
    assert.ok((await look.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0, name);
    await look.evaluate(axe);
    const { violations } = await look.evaluate(() => axe.run());
    assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`), []);
    await close(look);
  }
  await stop(list);
  await listed(/^liveon air[^c]*$/);
  await stop(live);
  await text(page, "#producers", "None is connected.");
  await close(page);
  await stop(station.server);
});

test("the meters move with the sound", async ({ station }) => {
  const page = await open(station.url);
  const picture = () => page.locator("#meters").evaluate((canvas) => canvas.toDataURL());
  await text(page, "#peak-right", "\u221218.0");
  const before = await picture();
  const feeder = station.feed("mock:silence");
  await text(page, "#peak-right", "\u2212\u221e");
  await until("they have fallen", async () => (await picture()) !== before);
  await stop(feeder);
  await text(page, "#peak-right", "\u221218.0");
  await until("they are back", async () => (await picture()) === before);
  await close(page);
});

test("a title is shown as it is, be it markup", async ({ station }) => {
  const page = await open(station.url);
  const title = 'K\u00e6r & <img src=x onerror="document.title=1"> \u2013 Side B';
  await station.setTitle(title);
  await text(page, "#title", title);
  assert.equal(await page.locator("#title img").count(), 0);
  await station.setTitle("Another");
  await text(page, "#title", "Another");
  await text(page, "#log", /title: Another.*title: K/);
  await close(page);
});

testAlone("it shows the state where all places for events are taken", async () => {
  const station = await new Station().start();
  const places = new AbortController();
  const taken = [];
  for (;;) {
    const answer = await fetch(`${station.url}events`, { signal: places.signal });
    if (answer.status !== 200) break;
    taken.push(answer);
  }
  assert.ok(taken.length > 100);
  const page = await open(station.url, { may_fail: true });
  await text(page, "#lamp-text", "On air");
  await text(page, "#log", /the transmitter started/);
  const frames = await textOf(page, '[data-f="ticks.emitted"]');
  await until("the numbers go on", async () => (await textOf(page, '[data-f="ticks.emitted"]')) !== frames);
  assert.equal(await textOf(page, "#link"), "Connected");
  // Once there is room it gets events as any other.
  places.abort();
  await until("it has events", () => page.evaluate(() => new Promise((resolve) => {
    const seen = () => performance.getEntriesByType("resource").filter((entry) => entry.name.endsWith("/status")).length;
    const before = seen();
    setTimeout(() => resolve(seen() === before), 3000);
  })));
  await close(page);
  await station.kill();
});

testAlone("with the transmitter gone the page says so, and comes back by itself", async () => {
  const station = await new Station().start();
  const page = await open(station.url, { may_fail: true });
  await page.click("#play");
  await plays(page);
  await text(page, "#log", /the transmitter started/);
  await station.kill();
  await text(page, "#lamp-text", "No link");
  assert.equal(await isLit(page), 0);
  await text(page, "#why", /^The transmitter cannot be reached\. Trying again/);
  await text(page, "#spoken", "No connection to the transmitter");
  await text(page, "#player-state", /Trying again/);
  await shot(page, "no-connection-dark");
  await page.emulateMedia({ colorScheme: "light" });
  await shot(page, "no-connection-light");
  await station.start();
  await text(page, "#lamp-text", "On air");
  await text(page, "#log", /connected again.*no connection to the transmitter/);
  await text(page, "#player-state", "Playing");
  await plays(page);
  await close(page);
  await stop(station.server);
});

test("it works at a sub-path behind a proxy", async ({ station }) => {
  const proxy = await startProxy(station.url);
  const page = await open(proxy.url);
  await text(page, "#lamp-text", "On air");
  await text(page, "#addresses", new RegExp(`${proxy.url}stream`));
  await text(page, "#log", /the transmitter started/);
  await page.click("#play");
  await plays(page);
  await page.click("#play");
  await close(page);
  proxy.stop();
});

test("the keyboard is enough", async ({ station }) => {
  const page = await open(station.url);
  const focused = () => page.evaluate(() => document.activeElement.id);
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "play");
  const ring = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(ring, "solid");
  await page.keyboard.press("Enter");
  await text(page, "#player-state", "Playing");
  assert.equal(await page.locator("#play").getAttribute("aria-pressed"), "true");
  await page.keyboard.press("Space");
  await text(page, "#player-state", "Listen");
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "volume");
  await page.keyboard.press("ArrowLeft");
  assert.equal(await page.locator("#volume").inputValue(), "99");
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "tracks");
  await page.keyboard.press("ArrowLeft");
  await until("it is told in words", async () =>
    /ago: .*, listeners: \d+, lateness \d/.test(await page.locator("#tracks").getAttribute("aria-valuetext")));
  assert.equal(await page.locator("#tracks").getAttribute("aria-valuenow"), "-1");
  await text(page, "#readout", /ago$/);
  await page.keyboard.press("Escape");
  await text(page, "#readout", "");
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "log");
  await close(page);
});

test("an address is copied", async ({ station }) => {
  const page = await open(station.url);
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.click("#addresses button >> nth=0");
  await text(page, "#addresses button >> nth=0", "Copied");
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `${station.url}stream`);
  await close(page);
});

for (const [name, dark, width] of [["dark", true, 1280], ["light", false, 1280], ["phone, dark", true, 390], ["phone, light", false, 390]]) {
  test(`axe finds nothing to object to: ${name}`, async ({ station }) => {
    const page = await open(station.url, { dark, width });
    await text(page, "#lamp-text", "On air");
    await text(page, "#legend", /Tone/);
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => axe.run());
    assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`), []);
    await close(page);
  });
}

test("nothing sticks out, down to a narrow phone", async ({ station }) => {
  await station.setTitle("An extraordinarily long title without any end ".repeat(4) + "x".repeat(200));
  for (const width of [320, 390, 700, 1100, 1920]) {
    const page = await open(station.url, { width });
    await text(page, "#title", /^An extra/);
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0, `${width} wide`);
    await close(page);
  }
});

/* What every origin looks like, for people to look at. */
testAlone("screenshots of every state", async () => {
  const song = makeSong();
  const station = await new Station({ name: "Radio Havn 98.4", words: ["--fallback", song, "--grace", "2"] }).start();
  const looks = [["dark", true, 1280], ["light", false, 1280], ["phone-dark", true, 390], ["phone-light", false, 390]];
  const pages = [];
  for (const [name, dark, width] of looks) pages.push([name, await open(station.url, { dark, width })]);
  const shoot = async (state, origin) => {
    for (const [name, page] of pages) {
      await text(page, "#origin", origin);
      await shot(page, `${state}-${name}`);
    }
  };
  await text(pages[0][1], "#origin", "Fallback file");
  await shoot("file", "Fallback file");
  const feeder = station.feed(song, "--loop", "--paced", "--title", "Astrid Kj\u00e6r \u2013 Northern Line (Live at Folkets Hus)");
  await text(pages[0][1], "#track-origin", /^Live, peak \u2212\d/);
  await shoot("live", "Live");
  await stop(feeder, "SIGKILL");
  await text(pages[0][1], "#origin", "Grace silence");
  for (const [name, page] of pages.slice(0, 2)) await shot(page, `grace-${name}`);
  for (const [, page] of pages) await close(page);
  await stop(station.server);
  const tone = await new Station().start();
  for (const [name, dark, width] of looks) {
    const page = await open(tone.url, { dark, width });
    await text(page, "#origin", "Tone");
    await shot(page, `tone-${name}`);
    await close(page);
  }
  await stop(tone.server);
});

async function withLimit(ms, promise) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it did not come to its end in ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}

async function main(words) {
  const chosen = tests.filter(({ name }) => !words.length || words.some((word) => name.includes(word)));
  let passed = 0;
  let failed = 0;
  const end = async () => {
    console.log(`${passed} passed, ${failed} failed`);
    await stopAll();
    process.exit(passed && !failed ? 0 : 1);
  };
  const guard = setTimeout(async () => {
    console.log("the whole run took too long");
    failed += chosen.length - passed - failed;
    await end();
  }, WHOLE_RUN_MS);
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => stopAll().then(() => process.exit(1)));
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio"] });
  const station = await new Station().start();
  const runLane = async (lane) => {
    for (const { name, run } of chosen.filter((one) => one.lane === lane)) {
      const began = Date.now();
      try {
        await withLimit(A_TEST_MS, run({ station }));
        passed++;
        console.log(`ok ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
      } catch (error) {
        failed++;
        console.log(`not ok ${name}\n${String(error.stack || error).replace(/^/gm, "#   ")}`);
      }
    }
  };
  await Promise.all([runLane(0), runLane(1)]);
  clearTimeout(guard);
  await browser.close();
  await end();
}

main(process.argv.slice(2)).catch(async (error) => {
  console.log(`not ok the browser or the transmitter did not start\n${String(error.stack || error).replace(/^/gm, "#   ")}`);
  console.log("0 passed, 1 failed");
  await stopAll();
  process.exit(1);
});
