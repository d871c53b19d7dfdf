// page.js - what the transmitter says, in words and numbers.
import { Meters, Timeline } from "./draw.js";
import { Player } from "./player.js";

const SILENT_LINK_MS = 6000;
const LONGEST_WAIT_MS = 5000;
const ASK_AGAIN_MS = 2000;
const ASK_HISTORY_MS = 10000;
const LOG_ENTRIES = 100;
const WARNING_MS = 300000;
const TROUBLE = /^no connection|stalled|recovering|degraded|given up|dropped|turned away|put in for/;

const ORIGINS = {
  live: ["Live", "A producer feeds the stream."],
  grace: ["Grace silence", "Live audio ran dry. The fallback comes next."],
  file: ["Fallback file", "Nobody feeds the stream: the fallback file plays."],
  tone: ["Tone", "Nobody feeds the stream: the tone plays."],
  silence: ["Silence", "Nobody feeds the stream, and there is neither file nor tone."],
  repair: ["Repair", "The encoder failed: silence stands in."],
};
const STATES = {
  starting: ["Starting", "Starting", "Nothing has gone on air yet."],
  stalled: ["Off air", "Stalled", "No frame went on air within the last second."],
  stopping: ["Stopping", "Stopping", "The transmitter is being stopped."],
};

const byId = (id) => document.getElementById(id);

function show(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function swatch(mark) {
  const element = make("span", "swatch");
  element.dataset.origin = mark;
  return element;
}

// ---- Numbers as text

const count = (n) => n.toLocaleString("en");
const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
const two = (n) => String(n).padStart(2, "0");
const minus = (text) => text.replace("-", "\u2212");
const dbfs = (level) => (level <= -119.9 ? "\u2212\u221e" : minus(level.toFixed(1)));
const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");
const millis = (ms) => `${ms.toFixed(ms === 0 || ms >= 100 ? 0 : ms < 1 ? 2 : 1)} ms`;

function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const days = Math.floor(s / 86400);
  const hours = Math.floor(s / 3600) % 24;
  const minutes = Math.floor(s / 60) % 60;
  if (days) return `${days} d ${two(hours)}:${two(minutes)}:${two(s % 60)}`;
  return hours ? `${hours}:${two(minutes)}:${two(s % 60)}` : `${minutes}:${two(s % 60)}`;
}

function share(part) {
  if (part === 0 || part === 1) return `${part * 100} %`;
  return part < 0.001 ? "< 0.1 %" : `${Math.min(99.9, part * 100).toFixed(1)} %`;
}

function rate(bps) {
  return bps < 1e6 ? `${(bps / 1e3).toFixed(0)} kbit/s` : `${(bps / 1e6).toFixed(bps < 1e8 ? 1 : 0)} Mbit/s`;
}

const FORMATS = {
  ms: (us) => millis(us / 1000),
  "s-ms": (s) => millis(s * 1000),
  kbit: rate,
  frames: (n) => plural(n, "frame"),
  pid: (n) => (n ? String(n) : "none of its own"),
};

// ---- What is known

const past = {
  samples: [], // one a second, the last is now; null where it is not known
  at: 0,
  /* Returns whether the one before was missed. */
  push(sample) {
    const now = Date.now();
    const steps = this.at ? Math.min(900, Math.round((now - this.at) / 1000)) : 1;
    if (steps === 0) this.samples.pop();
    for (let i = 1; i < steps; i++) this.samples.push(null);
    this.samples.push(sample);
    this.samples.splice(0, this.samples.length - 900);
    this.at = now;
    return steps > 1;
  },
  /* What the transmitter remembers replaces what was seen here; what is older is kept. */
  load(seconds) {
    if (this.at && Date.now() - this.at > 500) this.push(null);
    this.samples.splice(Math.max(0, this.samples.length - seconds.length));
    this.samples.push(...seconds);
    if (seconds.length) this.at = Date.now();
  },
};
let status = null; // the last one
let statusAt = 0; // when it came, of Date.now()
let isLinked = false;
let wasLinked = false;
let lostAt = 0;
const now = { state: "", origin: "", since: 0, title: "" };

const timeline = new Timeline(past, {
  strip: byId("strip"), listeners: byId("graph-listeners"), lateness: byId("graph-lateness"), axis: byId("axis"),
});
const meters = new Meters(byId("meters"));

// ---- The log

let entries = []; // {at, text, isOwn}: of the page's own making

function note(text, at = Date.now(), isOwn = false) {
  entries.push({ at, text, isOwn });
  showLog();
}

/* A line about what is on air has that origin's colour, one about trouble the colour of a warning. */
function markOf(text) {
  if (/producer \d+\)? is on air/.test(text) && !text.startsWith("title: ")) return "live";
  const origin = text.match(/^on air: (\w+)/);
  if (origin && ORIGINS[origin[1]]) return origin[1];
  return TROUBLE.test(text) && !text.startsWith("title: ") ? "warn" : "note";
}

function showLog() {
  entries.sort((a, b) => a.at - b.at);
  entries = entries.slice(-LOG_ENTRIES);
  const items = entries.map(({ at, text }) => {
    const item = make("li");
    const time = make("time", "", clock(at));
    time.dateTime = new Date(at).toISOString();
    item.append(time, swatch(markOf(text)), make("span", "", text));
    return item;
  });
  if (!items.length) items.push(make("li", "label", "Nothing yet."));
  byId("log").replaceChildren(...items.reverse());
}

/* What the transmitter remembers is all there was from its first line to its last. */
function mergeLog(events) {
  if (!events.length) return;
  const now = Date.now();
  const [first, last] = [events[0], events[events.length - 1]].map((event) => now - event.seconds_ago * 1000);
  entries = entries.filter(({ at, isOwn }) => isOwn || at < first - 300 || at > last + 300);
  for (const { seconds_ago, text } of events) entries.push({ at: now - seconds_ago * 1000, text });
  showLog();
}

const dropped = ({ listeners: { ended } }) => ended.failed + ended.timeout + (ended.lagged || 0);
const refused = ({ listeners }) => listeners.refused + (listeners.refused_address || 0);

// ---- What is on air

function headline() {
  if (!isLinked) {
    if (!wasLinked && !lostAt) return { lamp: "Off air", name: "Connecting", why: "Waiting for the transmitter." };
    const old = statusAt ? ` Below is how it was at ${clock(statusAt)}.` : "";
    return { lamp: "No link", name: "No connection", since: lostAt, isAlarm: true,
      why: `The transmitter cannot be reached. Trying again.${old}`, spoken: "No connection to the transmitter" };
  }
  if (STATES[now.state]) {
    const [lamp, name, why] = STATES[now.state];
    return { lamp, name, why, isAlarm: now.state === "stalled" };
  }
  if (now.state !== "on air") return { lamp: "Off air", name: "Connecting", why: "Waiting for the transmitter." };
  const [name, usual] = ORIGINS[now.origin] || [now.origin, ""];
  const who = feeder();
  const why = who ? `The producer ${who.name} feeds the stream${who.chosen ? ", chosen by hand" : ""}.` : usual;
  return { lamp: "On air", name, why, since: now.since, origin: now.origin,
    spoken: who && `On air: ${name}, ${who.name}` };
}

/* Who feeds the stream, if it has said so. */
function feeder() {
  const producer = now.origin === "live" && status && status.producers.list.find(({ on_air }) => on_air);
  return producer && producer.name ? producer : null;
}

function showHeadline() {
  const { lamp, name, why, since, origin, isAlarm, spoken } = headline();
  document.body.dataset.link = isLinked ? "on" : wasLinked || lostAt ? "off" : "wait";
  document.body.dataset.origin = origin || "";
  byId("lamp").classList.toggle("is-lit", Boolean(origin));
  byId("lamp").classList.toggle("is-alarm", Boolean(isAlarm));
  show(byId("lamp-text"), lamp);
  show(byId("origin"), name);
  show(byId("why"), why);
  show(byId("link"), isLinked ? "Connected" : lostAt ? "No connection" : "Connecting");
  show(byId("origin-for"), since ? duration((Date.now() - since) / 1000) : "");
  show(byId("spoken"), spoken || `${lamp}: ${name}`);
  document.title = `${name} \u00b7 ${byId("station").textContent}`;
}

function setState({ state, origin, origin_seconds }) {
  Object.assign(now, { state, origin, since: Date.now() - origin_seconds * 1000 });
  showHeadline();
}

function setTitle(text) {
  if (text === now.title) return;
  now.title = text;
  show(byId("title"), text || "None is given");
  byId("title").classList.toggle("is-empty", !text);
  tellSystem();
}

function setListeners({ current, peak }) {
  show(document.querySelector('[data-f="listeners.current"]'), count(current));
  show(document.querySelector('[data-f="listeners.peak"]'), count(peak));
}

let peaksShownAt = 0;
function setLevels({ peak_dbfs, rms_dbfs }) {
  meters.set(peak_dbfs, rms_dbfs);
  if (performance.now() - peaksShownAt < 300) return;
  peaksShownAt = performance.now();
  [byId("peak-left"), byId("peak-right")].forEach((element, i) => {
    show(element, dbfs(meters.held[i]));
    element.classList.toggle("is-over", meters.held[i] > -0.1);
  });
}

// ---- The numbers

const growth = new Map(); // an element: {n, at} its number and when that was last seen to grow

/* Show a number that should not grow, and for a while that it did. */
function warn(element, n) {
  const known = growth.get(element);
  const at = known && n > known.n ? Date.now() : known ? known.at : 0;
  growth.set(element, { n, at });
  element.classList.toggle("is-warning", Date.now() - at < WARNING_MS);
}

function showFields() {
  for (const element of document.querySelectorAll("[data-f]")) {
    const value = element.dataset.f.split(".").reduce((part, key) => (part ? part[key] : undefined), status);
    if (value === undefined || value === null) continue;
    const format = FORMATS[element.dataset.as] || ((v) => (typeof v === "number" ? count(v) : String(v)));
    show(element, format(value));
    if ("warns" in element.dataset) warn(element, value);
  }
}

function showSums(before) {
  for (const [id, n] of [["refused", refused(status)], ["dropped", dropped(status)]]) {
    show(byId(id), count(n));
    warn(byId(id), n);
  }
  const seconds = before ? status.uptime_seconds - before.uptime_seconds : 0;
  if (seconds > 0) show(byId("sent"), rate(((status.listeners.sent_bytes - before.listeners.sent_bytes) * 8) / seconds));
  const name = { lame: "LAME", ffmpeg: "FFmpeg" }[status.encoder.kind] || status.encoder.kind;
  show(byId("encoder"), name);
  const { count: depth, capacity } = status.router;
  show(byId("queued"), millis((depth * status.frame_samples) / 48));
  byId("depth").setAttribute("width", `${capacity ? (100 * depth) / capacity : 0}%`);
  show(byId("uptime"), duration(status.uptime_seconds));
  const station = (status.station && status.station.name) || "Tower";
  if (byId("station").textContent !== station) {
    show(byId("station"), station);
    tellSystem();
  }
}

const DOING = { "on air": "on air", waiting: "waits", idle: "nothing to play" };

/* Who is on air, who waits, who is only there, each since when. */
function showProducers() {
  const order = Object.keys(DOING);
  const list = [...status.producers.list].sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state));
  const items = list.map(({ id, pid, name, label, state, chosen, on_air, since_seconds, seconds_since_data: quiet }) => {
    const item = make("li", on_air ? "" : "is-waiting");
    const doing = on_air && quiet > 1 ? `quiet for ${duration(quiet)}` : `${DOING[state] || state} \u00b7 ${duration(since_seconds)}`;
    const about = make("p", "", [label, name && `#${id}`, pid && `pid ${pid}`].filter(Boolean).join(" \u00b7 "));
    if (chosen) about.append(make("span", "", "chosen by hand"));
    item.append(swatch(on_air ? "live" : "note"), make("b", "", name || `#${id}`), make("span", "", doing), about);
    return item;
  });
  if (!items.length) items.push(make("li", "is-none", "None is connected."));
  byId("producers").replaceChildren(...items);
}

function showLegend() {
  const frames = Object.entries(status.frames_by_origin);
  const all = frames.reduce((sum, [origin, n]) => sum + (origin === "repair" ? 0 : n), 0);
  if (!all) return;
  const items = frames.filter(([, n]) => n > 0).map(([origin, n]) => {
    const item = make("li");
    item.append(swatch(origin), make("span", "", (ORIGINS[origin] || [origin])[0]), make("b", "", share(n / all)));
    return item;
  });
  byId("legend").replaceChildren(...items);
}

function setStatus(next) {
  let before = status;
  if (before && next.uptime_seconds < before.uptime_seconds) {
    growth.clear();
    before = null;
  }
  status = next;
  statusAt = Date.now();
  setState(next);
  setTitle((next.title && next.title.text) || "");
  showFields();
  showSums(before);
  showProducers();
  showLegend();
}

// ---- Looking back

function showReadout() {
  const ago = timeline.cursor;
  const sample = timeline.at(ago === null ? 0 : ago);
  const origin = sample ? `${(ORIGINS[sample.origin] || [sample.origin])[0]}, peak ${dbfs(sample.peak_dbfs)} dBFS` : "not known";
  const listeners = sample ? count(sample.listeners) : "not known";
  const lateness = sample && typeof sample.lateness_ms === "number" ? millis(sample.lateness_ms) : "";
  show(byId("track-origin"), origin);
  show(byId("track-listeners"), listeners);
  show(byId("track-lateness"), lateness);
  const when = ago === null ? "" : `${clock(past.at - ago * 1000)}, ${duration(ago)} ago`;
  show(byId("readout"), when);
  const tracks = byId("tracks");
  tracks.setAttribute("aria-valuenow", String(ago === null ? 0 : -ago));
  if (document.activeElement === tracks)
    tracks.setAttribute("aria-valuetext", `${when || "now"}: ${origin}, listeners: ${listeners}, lateness ${lateness || "not known"}`);
}

function lookAt(ago) {
  timeline.setCursor(ago === null ? null : Math.min(timeline.span - 1, Math.max(0, ago)));
  showReadout();
}

function setUpLookingBack() {
  const tracks = byId("tracks");
  const point = (event) => {
    const box = byId("strip").getBoundingClientRect();
    lookAt(Math.floor(((box.right - event.clientX) / box.width) * timeline.span));
  };
  tracks.addEventListener("pointermove", point);
  tracks.addEventListener("pointerdown", point);
  tracks.addEventListener("pointerleave", () => lookAt(null));
  tracks.addEventListener("blur", () => lookAt(null));
  tracks.addEventListener("keydown", (event) => {
    const ago = timeline.cursor === null ? 0 : timeline.cursor;
    const to = { ArrowLeft: ago + 1, ArrowDown: ago + 1, ArrowRight: ago - 1, ArrowUp: ago - 1, PageDown: ago + 60,
      PageUp: ago - 60, Home: timeline.span - 1, End: 0, Escape: null }[event.key];
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    lookAt(to);
  });
  narrow.addEventListener("change", setSpan);
  setSpan();
}

const narrow = matchMedia("(max-width: 640px)");

/* A quarter of an hour where there is room for it and something to show, else five minutes. */
function setSpan() {
  timeline.span = narrow.matches || past.samples.length <= 300 ? 300 : 900;
  show(byId("span"), String(timeline.span / 60));
  byId("tracks").setAttribute("aria-valuemin", String(1 - timeline.span));
  timeline.touch();
}

// ---- The connection

let events = null;
let heardAt = performance.now();
let retry = 0;
let tries = 0;

function connect() {
  clearTimeout(retry);
  retry = 0;
  heardAt = performance.now();
  if (events) events.close();
  events = new EventSource("events");
  events.onopen = () => {
    heardAt = performance.now();
    tries = 0;
    loadHistory();
  };
  // What a browser does about an error differs by the error: always do it here.
  events.onerror = askInstead;
  const on = (name, handle) => events.addEventListener(name, (event) => {
    heardAt = performance.now();
    const data = JSON.parse(event.data);
    if (!isLinked && name === "status") gain();
    handle(data);
  });
  on("levels", (data) => isLinked && setLevels(data));
  on("state", (data) => isLinked && setState(data));
  on("listeners", setListeners);
  on("title", ({ text }) => setTitle(text));
  on("status", setStatus);
  on("second", setSecond);
  on("note", ({ seconds_ago, text }) => note(text, Date.now() - seconds_ago * 1000));
}

/* No events: because the transmitter is gone, or because as many get them as may. Then its state can
 * still be asked for, and the events again. */
async function askInstead() {
  events.close();
  events = null;
  try {
    const answer = await fetch("status", { cache: "no-store", signal: AbortSignal.timeout(SILENT_LINK_MS / 2) });
    if (!answer.ok) throw new Error();
    const state = await answer.json();
    if (events || retry) return;
    heardAt = performance.now();
    if (!isLinked) gain();
    if (!past.at || Date.now() - past.at > ASK_HISTORY_MS) loadHistory();
    setStatus(state);
    setLevels(state.levels);
    retry = setTimeout(connect, ASK_AGAIN_MS);
  } catch {
    lose();
  }
}

function gain() {
  isLinked = true;
  if (wasLinked || lostAt) note("connected again", Date.now(), true);
  wasLinked = true;
  player.hurry();
}

function lose() {
  if (events) events.close();
  events = null;
  if (isLinked || !lostAt) {
    lostAt = Date.now();
    note("no connection to the transmitter", Date.now(), true);
    now.state = "";
    meters.clear();
  }
  isLinked = false;
  showHeadline();
  if (!retry) retry = setTimeout(connect, Math.min(LONGEST_WAIT_MS, 250 * 2 ** tries++));
}

function setSecond(second) {
  if (past.push(second)) loadHistory();
  setSpan();
  showReadout();
}

async function loadHistory() {
  try {
    const answer = await fetch("history", { cache: "no-store" });
    if (!answer.ok) return;
    const history = await answer.json();
    past.load(history.seconds);
    mergeLog(history.events);
    setSpan();
    showReadout();
  } catch {
    // The event stream says that the transmitter is gone; with it back, this is asked again.
  }
}

// ---- Listening

const PLAYER_WORDS = {
  stopped: "Listen", starting: "Starting\u2026", playing: "Playing", broken: "Trying again\u2026", blocked: "Press again",
};
const player = new Player(byId("audio"), (state) => {
  show(byId("player-state"), PLAYER_WORDS[state]);
  byId("play").setAttribute("aria-pressed", String(player.isWanted));
  if ("mediaSession" in navigator) navigator.mediaSession.playbackState = player.isWanted ? "playing" : "none";
});

/* What a phone shows on its locked screen. */
function tellSystem() {
  if (!("mediaSession" in navigator)) return;
  const station = byId("station").textContent;
  navigator.mediaSession.metadata = new MediaMetadata({ title: now.title || station, artist: now.title ? station : "" });
}

function setUpPlayer() {
  byId("play").addEventListener("click", () => player.toggle());
  const volume = byId("volume");
  try {
    volume.value = localStorage.getItem("tower-volume") || "100";
  } catch {
    // A browser may forbid it: then it begins at full volume.
  }
  // Loudness goes with a power of the voltage: half way is half as loud.
  const set = () => (player.volume = (volume.valueAsNumber / 100) ** 2);
  volume.addEventListener("input", set);
  volume.addEventListener("change", () => {
    try {
      localStorage.setItem("tower-volume", volume.value);
    } catch {
      // As above.
    }
  });
  set();
  if ("mediaSession" in navigator) {
    navigator.mediaSession.setActionHandler("play", () => player.isWanted || player.start());
    for (const action of ["pause", "stop"]) navigator.mediaSession.setActionHandler(action, () => player.stop());
  }
}

// ---- Addresses

async function copy(link, button) {
  try {
    await navigator.clipboard.writeText(link.href);
  } catch {
    // Without TLS there is no clipboard to write to, but what is selected can be copied.
    getSelection().selectAllChildren(link);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

function showAddresses() {
  const list = [["The stream", "stream"], ["For players: a playlist", "listen.m3u"], ["Status as JSON", "status"], ["This page", "./"]];
  byId("addresses").replaceChildren(...list.map(([name, path]) => {
    const item = make("li");
    const link = make("a");
    link.href = new URL(path, location.href).href;
    link.textContent = link.href;
    const button = make("button", "", "Copy");
    button.type = "button";
    button.setAttribute("aria-label", `Copy the address: ${name}`);
    button.addEventListener("click", () => copy(link, button));
    item.append(make("span", "label", name), link, button);
    return item;
  }));
}

/* Once a second, when the clock moves on. */
function beat() {
  setTimeout(beat, 1000 - (Date.now() % 1000));
  show(byId("clock"), clock(Date.now()));
  if (isLinked && performance.now() - heardAt > SILENT_LINK_MS) lose();
  if (events && !isLinked && performance.now() - heardAt > SILENT_LINK_MS) lose();
  if (!isLinked && past.at && Date.now() - past.at > 900) {
    past.push(null);
    timeline.touch();
    showReadout();
  }
  showHeadline();
}

setUpPlayer();
setUpLookingBack();
showAddresses();
showLog();
beat();
connect();
