// station.mjs - the real programs, a proxy before them, and waiting for what they do.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PASSWORD = "only for the tests";
const folder = mkdtempSync(join(tmpdir(), "tower-browser-"));
const processes = new Set();
let stations = 0;

/* Wait until condition() gives something true, and return that. */
export async function until(what, condition, seconds = 20) {
  const deadline = Date.now() + seconds * 1000;
  let last;
  for (;;) {
    try {
      last = await condition();
    } catch (error) {
      last = error;
    }
    if (last && !(last instanceof Error)) return last;
    if (Date.now() > deadline) throw new Error(`waited ${seconds} s in vain until ${what} (${last})`);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}

function start(words) {
  const environment = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith("TOWER") && name !== "XDG_RUNTIME_DIR"));
  const child = spawn(process.env.TOWER, words, { env: environment, stdio: ["ignore", "pipe", "pipe"] });
  child.said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (child.said += data));
  child.ended = once(child, "exit");
  processes.add(child);
  child.ended.then(() => processes.delete(child), () => processes.delete(child));
  return child;
}

export async function stop(child, signal = "SIGTERM") {
  if (child.exitCode === null && child.signalCode === null) child.kill(signal);
  await child.ended;
}

/* SIGKILL for what process `pid` has started. */
async function endWorkers(pid) {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
  for (const child of children.split(" ").filter(Boolean)) process.kill(Number(child), "SIGKILL");
}

/* Whatever happened: nothing runs any more, and nothing is left. */
export async function stopAll() {
  for (const child of [...processes]) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill("SIGSTOP");
      await endWorkers(child.pid);
    }
    await stop(child, "SIGKILL");
  }
  rmSync(folder, { recursive: true, force: true });
}

export class Station {
  constructor(options = {}) {
    this.name = options.name || "Radio Test";
    this.words = options.words || [];
    this.socket = join(folder, `pcm-${++stations}.sock`);
    this.port = 0;
  }

  async start() {
    const password = join(folder, "password");
    writeFileSync(password, `${PASSWORD}\n`, { mode: 0o600 });
    this.server = start(["serve", "--port", String(this.port), "--socket", this.socket, "--realtime", "no", "--grace", "0.5",
      "--name", this.name, "--password-file", password, ...this.words]);
    this.port = await until("the transmitter says where it listens", () => {
      if (this.server.exitCode !== null) throw new Error(this.server.said);
      const found = this.server.said.match(/http:\/\/127\.0\.0\.1:(\d+)\//);
      return found && Number(found[1]);
    });
    this.url = `http://127.0.0.1:${this.port}/`;
    await until("it is on air", async () => (await fetch(`${this.url}readyz`)).ok);
    return this;
  }

  /* As a power cut does it: both processes at once. Of the two, one would go on. */
  async kill() {
    this.server.kill("SIGSTOP");
    await endWorkers(this.server.pid);
    await stop(this.server, "SIGKILL");
  }

  async status() {
    return (await fetch(`${this.url}status`)).json();
  }

  feed(source, ...words) {
    return start(["feed", source, "--socket", this.socket, ...words]);
  }

  async post(path, what) {
    const answer = await fetch(`${this.url}${path}`, {
      method: "POST",
      headers: { authorization: `Basic ${Buffer.from(`:${PASSWORD}`).toString("base64")}` },
      body: JSON.stringify(what),
    });
    if (!answer.ok) throw new Error(`${path} was not taken: ${answer.status} ${await answer.text()}`);
  }

  setTitle(text) {
    return this.post("metadata", { title: text });
  }

  choose(name) {
    return this.post("switch", { producer: name });
  }
}

/* A reverse proxy that has `target` at /radio/ and nothing anywhere else. */
export async function startProxy(target) {
  const server = http.createServer((request, response) => {
    if (!request.url.startsWith("/radio/")) {
      response.writeHead(404).end("not here");
      return;
    }
    const path = request.url.slice("/radio".length);
    const onward = http.request(target, { path, method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}/radio/`,
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/* Two seconds of a rising and falling chord, as a WAV file. */
export function makeSong() {
  const n = 48000 * 2;
  const bytes = Buffer.alloc(44 + n * 4);
  bytes.write("RIFF", 0);
  bytes.writeUInt32LE(36 + n * 4, 4);
  bytes.write("WAVEfmt ", 8);
  bytes.writeUInt32LE(16, 16);
  bytes.writeUInt16LE(1, 20);
  bytes.writeUInt16LE(2, 22);
  bytes.writeUInt32LE(48000, 24);
  bytes.writeUInt32LE(48000 * 4, 28);
  bytes.writeUInt16LE(4, 32);
  bytes.writeUInt16LE(16, 34);
  bytes.write("data", 36);
  bytes.writeUInt32LE(n * 4, 40);
  for (let i = 0; i < n; i++) {
    const swell = 0.25 + 0.3 * Math.sin((2 * Math.PI * i) / n) ** 2;
    for (let side = 0; side < 2; side++) {
      const wave = Math.sin((i * (220 + 55 * side) * 2 * Math.PI) / 48000) + 0.5 * Math.sin((i * 330 * 2 * Math.PI) / 48000);
      bytes.writeInt16LE(Math.round((wave / 1.5) * swell * (side ? 0.8 : 1) * 32767), 44 + i * 4 + side * 2);
    }
  }
  const path = join(folder, "song.wav");
  writeFileSync(path, bytes);
  return path;
}
