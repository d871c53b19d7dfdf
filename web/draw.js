// draw.js - the meters and the last minutes, on canvas: only what changed, only while it is seen.

const ORIGINS = ["live", "grace", "file", "tone", "silence", "repair"];
const WORDS = { live: "Live", grace: "Grace", file: "File", tone: "Tone", silence: "Silence", repair: "Repair" };
let colours = null;
const surfaces = new Set();
const waiting = new Set();
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const surface = entry.target.surface;
    surface.isSeen = entry.isIntersecting;
    if (surface.isSeen && surface.isStale) surface.touch();
  }
}, { rootMargin: "100px" });
const sized = new ResizeObserver((entries) => {
  for (const entry of entries) entry.target.surface.touch();
});

function theme() {
  if (!colours) {
    const style = getComputedStyle(document.documentElement);
    colours = {};
    for (const name of [...ORIGINS, "line", "ink", "soft", "unlit", "good", "warm", "hot", "on-colour", "on-grace", "panel"])
      colours[name] = style.getPropertyValue("--" + name).trim();
    colours.font = getComputedStyle(document.body).fontFamily;
  }
  return colours;
}

matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => {
  colours = null;
  for (const surface of surfaces) surface.touch();
});

function paintAll() {
  // The cost of a size that is asked for between two paintings is a layout: ask for all of them first.
  const due = [...waiting].filter((surface) => surface.isSeen);
  waiting.clear();
  for (const surface of due) surface.fit();
  for (const surface of due) surface.paint();
}

class Surface {
  constructor(canvas, painter) {
    this.canvas = canvas;
    this.painter = painter;
    this.pen = canvas.getContext("2d");
    this.isSeen = false;
    this.isStale = true;
    canvas.surface = this;
    surfaces.add(this);
    seen.observe(canvas);
    sized.observe(canvas);
  }

  touch() {
    this.isStale = true;
    if (!this.isSeen) return;
    if (!waiting.size) requestAnimationFrame(paintAll);
    waiting.add(this);
  }

  fit() {
    this.ratio = devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * this.ratio);
    const height = Math.round(this.canvas.clientHeight * this.ratio);
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
  }

  // Painters work in device pixels, so that every edge is sharp; px() is a length of the style sheet.
  paint() {
    this.isStale = false;
    this.pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.painter(this.pen, this.canvas.width, this.canvas.height, (n) => Math.round(n * this.ratio), theme());
  }
}

function write(pen, look, px, text, x, y, { size = 11, weight = 500, align = "left", colour = look.soft } = {}) {
  pen.font = `${weight} ${px(size)}px ${look.font}`;
  pen.textAlign = align;
  pen.textBaseline = "middle";
  pen.fillStyle = colour;
  pen.fillText(text, x, y);
}

// ---- Meters

const FLOOR_DBFS = -60;
const HOLD_MS = 1500;
const FALL_DB_PER_MS = 0.015;
const MARKS = [-60, -50, -40, -30, -24, -18, -12, -9, -6, -3, 0];

/* Where a level stands on the scale, 0 to 1: the upper end, where it matters, has more room. */
const place = (dbfs) => Math.pow(Math.min(1, Math.max(0, 1 - dbfs / FLOOR_DBFS)), 1.5);

export class Meters {
  constructor(canvas) {
    this.held = [-120, -120];
    this.heldAt = [0, 0];
    this.peak = [-120, -120];
    this.rms = [-120, -120];
    this.shown = "";
    this.surface = new Surface(canvas, (...all) => this.paint(...all));
  }

  set(peak, rms) {
    const now = performance.now();
    for (let i = 0; i < 2; i++) {
      this.peak[i] = peak[i];
      this.rms[i] = rms[i];
      const age = now - this.heldAt[i];
      if (peak[i] >= this.held[i]) {
        this.held[i] = peak[i];
        this.heldAt[i] = now;
      } else if (age > HOLD_MS) {
        const fallen = this.held[i] - (age - HOLD_MS) * FALL_DB_PER_MS;
        this.held[i] = fallen < FLOOR_DBFS ? peak[i] : Math.max(peak[i], fallen);
        this.heldAt[i] = now - HOLD_MS;
      }
    }
    const look = [...this.peak, ...this.rms, ...this.held].map((db) => Math.round(place(db) * 300)).join();
    if (look !== this.shown) this.surface.touch();
    this.shown = look;
  }

  clear() {
    this.held = [-120, -120];
    this.set([-120, -120], [-120, -120]);
  }

  paint(pen, width, height, px, look) {
    const step = px(5);
    const gap = Math.max(1, px(1));
    const n = Math.floor((width + gap) / step);
    const count = (dbfs) => Math.round(place(dbfs) * n);
    const zones = [[0, count(-9), look.good], [count(-9), count(-3), look.warm], [count(-3), n, look.hot]];
    for (let i = 0; i < 2; i++) {
      const top = px(23 * i);
      const tall = px(18);
      const segments = (from, to, colour, alpha) => {
        pen.globalAlpha = alpha;
        pen.fillStyle = colour;
        for (let s = from; s < to; s++) pen.fillRect(s * step, top, step - gap, tall);
      };
      const [peak, rms] = [count(this.peak[i]), count(this.rms[i])];
      segments(peak, n, look.unlit, 1);
      for (const [from, to, colour] of zones) {
        segments(from, Math.min(to, rms), colour, 1);
        segments(Math.max(from, rms), Math.min(to, peak), colour, 0.55);
      }
      const held = count(this.held[i]) - 1;
      const zone = zones.find(([from, to]) => held >= from && held < to);
      if (zone && held >= peak - 1) segments(held, held + 1, zone[2], 1);
    }
    pen.globalAlpha = 1;
    const base = px(46);
    let freeFrom = -Infinity;
    for (const mark of [0, -18, ...MARKS]) {
      const x = Math.min(n * step - gap, Math.round(place(mark) * n) * step);
      const isMain = mark === -18 || mark === 0;
      pen.fillStyle = isMain ? look.ink : look.soft;
      pen.fillRect(Math.min(x, width - Math.max(1, px(1))), base - px(3), Math.max(1, px(1)), px(4));
    }
    for (const mark of MARKS) {
      const x = Math.min(n * step - gap, Math.round(place(mark) * n) * step);
      const text = String(mark).replace("-", "\u2212");
      const align = mark === 0 ? "right" : mark === FLOOR_DBFS ? "left" : "center";
      const half = px(text.length * 3.6);
      const from = align === "center" ? x - half : align === "right" ? x - 2 * half : x;
      const must = mark === -18 || mark === 0;
      if (!must && (from < freeFrom || from + 2 * half > width - px(14))) continue;
      if (!must && mark === -24 && width < px(480)) continue;
      write(pen, look, px, text, x, base + px(11), { align, colour: must ? look.ink : look.soft, weight: must ? 650 : 500 });
      freeFrom = from + 2 * half + px(7);
    }
  }
}

// ---- The last minutes

export class Timeline {
  /* `past` has samples, the last of which is now: {origin, listeners, lateness_ms, peak_dbfs} or null. */
  constructor(past, canvases) {
    this.past = past;
    this.span = 900;
    this.cursor = null; // seconds ago
    const strip = (...all) => this.paintStrip(...all);
    const listeners = (...all) => this.paintGraph("listeners", 4, ...all);
    const lateness = (...all) => this.paintGraph("lateness_ms", 1, ...all);
    const axis = (...all) => this.paintAxis(...all);
    const painters = { strip, listeners, lateness, axis };
    this.surfaces = Object.keys(painters).map((name) => new Surface(canvases[name], painters[name]));
  }

  touch() {
    for (const surface of this.surfaces) surface.touch();
  }

  setCursor(secondsAgo) {
    if (secondsAgo === this.cursor) return;
    this.cursor = secondsAgo;
    this.touch();
  }

  at(secondsAgo) {
    return this.past.samples[this.past.samples.length - 1 - secondsAgo] || null;
  }

  left(secondsAgo, width) {
    return Math.round(width - ((secondsAgo + 1) * width) / this.span);
  }

  /* Runs of seconds that have one origin: [origin or null, its first second ago, its last]. */
  runs() {
    const runs = [];
    for (let ago = this.span - 1; ago >= 0; ago--) {
      const sample = this.at(ago);
      const origin = sample ? sample.origin : null;
      const last = runs[runs.length - 1];
      if (last && last[0] === origin) last[2] = ago;
      else runs.push([origin, ago, ago]);
    }
    return runs;
  }

  /* The full minutes of the clock: [seconds ago, date, is it a fifth?]. */
  minutes() {
    const now = Date.now() / 1000;
    const list = [];
    for (let at = Math.floor(now / 60) * 60; now - at < this.span; at -= 60)
      list.push([now - at, new Date(at * 1000), (at / 60) % 5 === 0]);
    return list;
  }

  grid(pen, width, height, px, look) {
    pen.fillStyle = look.line;
    for (const [ago, , isFifth] of this.minutes())
      if (isFifth || this.span <= 300) pen.fillRect(this.left(ago, width), 0, Math.max(1, px(1)), height);
  }

  mark(pen, width, height, px, look) {
    if (this.cursor === null) return;
    pen.fillStyle = look.ink;
    const x = (this.left(this.cursor, width) + this.left(this.cursor - 1, width)) / 2;
    pen.fillRect(Math.floor(x), 0, Math.max(1, px(1.5)), height);
  }

  paintStrip(pen, width, height, px, look) {
    const band = px(20);
    this.grid(pen, width, height, px, look);
    pen.fillStyle = look.unlit;
    pen.fillRect(0, 0, width, band);
    const middle = band + Math.round((height - band + px(4)) / 2);
    const reach = middle - band - px(6);
    for (const [origin, from, to] of this.runs()) {
      if (!origin) continue;
      const [x, end] = [this.left(from, width), this.left(to - 1, width)];
      pen.fillStyle = look[origin] || look.silence;
      pen.fillRect(x, 0, end - x, band);
      pen.globalAlpha = 0.5;
      for (let ago = from; ago >= to; ago--) {
        const sample = this.at(ago);
        const tall = Math.max(px(1), Math.round(place(sample.peak_dbfs) * reach));
        const left = this.left(ago, width);
        pen.fillRect(left, middle - tall, this.left(ago - 1, width) - left, 2 * tall);
      }
      pen.globalAlpha = 1;
      pen.font = `650 ${px(12)}px ${look.font}`;
      const text = WORDS[origin] || origin;
      const hasRoom = pen.measureText(text).width + px(14) < end - x;
      if (hasRoom)
        write(pen, look, px, text, Math.max(x, 0) + px(7), band / 2 + px(0.5),
          { size: 12, weight: 650, colour: origin === "grace" ? look["on-grace"] : look["on-colour"] });
    }
    this.mark(pen, width, height, px, look);
  }

  paintGraph(field, least, pen, width, height, px, look) {
    this.grid(pen, width, height, px, look);
    let most = 0;
    for (let ago = 0; ago < this.span; ago++) {
      const sample = this.at(ago);
      if (sample && sample[field] > most) most = sample[field];
    }
    const top = roundUp(Math.max(least, most));
    const line = Math.max(1, px(1));
    const isBars = field === "lateness_ms";
    const high = (value) => Math.round(Math.min(1, value / top) * (height - px(6)));
    let before = null;
    for (let ago = this.span - 1; ago >= 0; ago--) {
      const sample = this.at(ago);
      const value = sample ? sample[field] : null;
      const [x, end] = [this.left(ago, width), this.left(ago - 1, width)];
      if (typeof value === "number") {
        const tall = high(value);
        if (isBars) {
          pen.fillStyle = value >= 24 ? look.hot : look.soft;
          pen.fillRect(x, height - Math.max(line, tall), end - x, Math.max(line, tall));
        } else {
          pen.fillStyle = look.ink;
          pen.globalAlpha = 0.1;
          pen.fillRect(x, height - tall, end - x, tall);
          pen.globalAlpha = 1;
          const from = before === null ? tall : before;
          const rise = Math.abs(from - tall);
          pen.fillRect(x, height - tall - line, end - x, px(1.5));
          if (rise) pen.fillRect(x, height - Math.max(from, tall) - line, px(1.5), rise + line);
          before = tall;
        }
      } else {
        before = null;
      }
    }
    pen.fillStyle = look.line;
    pen.fillRect(0, height - line, width, line);
    const text = isBars ? `${top} ms` : String(top);
    pen.font = `500 ${px(11)}px ${look.font}`;
    pen.globalAlpha = 0.8;
    pen.fillStyle = look.panel;
    pen.fillRect(0, 0, Math.round(pen.measureText(text).width) + px(5), px(14));
    pen.globalAlpha = 1;
    write(pen, look, px, text, 0, px(7));
    this.mark(pen, width, height, px, look);
  }

  paintAxis(pen, width, height, px, look) {
    const every = this.span <= 300 || width > px(1000) ? 1 : 5;
    for (const [ago, date] of this.minutes()) {
      const x = this.left(ago, width);
      if (date.getMinutes() % every || x < px(18) || x > width - px(46)) continue;
      const text = date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
      write(pen, look, px, text, x, px(13), { align: "center" });
    }
    write(pen, look, px, "now", width, px(13), { align: "right", weight: 650 });
  }
}

/* 1, 2 or 5 times a power of ten that is not below `value`. */
function roundUp(value) {
  const power = Math.pow(10, Math.floor(Math.log10(value)));
  return [1, 2, 4, 5, 10].map((n) => n * power).find((n) => n >= value * 0.999);
}
