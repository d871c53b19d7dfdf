// player.js - plays the stream; begins again by itself for as long as it is wanted.

const STUCK_AFTER_MS = 5000;
const LONGEST_WAIT_MS = 8000;

export class Player {
  /* onState gets "stopped", "starting", "playing", "broken" or "blocked" at each change. */
  constructor(audio, onState) {
    this.onState = onState;
    this.audio = audio;
    this.state = "stopped";
    this.isWanted = false;
    this.retry = 0;
    this.tries = 0;
    this.place = 0;
    this.movedAt = 0;
    this.audio.addEventListener("playing", () => this.say("playing"));
    this.audio.addEventListener("ended", () => this.again());
    this.audio.addEventListener("error", () => this.again());
    // Headphones that are pulled out, or the buttons of a phone.
    this.audio.addEventListener("pause", () => {
      if (this.isWanted && !this.audio.ended && !this.retry && this.state === "playing") this.stop();
    });
    setInterval(() => this.watch(), 1000);
  }

  set volume(value) {
    this.audio.volume = value;
  }

  toggle() {
    if (this.isWanted) this.stop();
    else this.start();
  }

  start() {
    this.isWanted = true;
    this.tries = 0;
    this.say("starting");
    this.open();
  }

  stop() {
    this.isWanted = false;
    this.close();
    this.say("stopped");
  }

  /* Without a source nothing is downloaded. */
  close() {
    clearTimeout(this.retry);
    this.retry = 0;
    this.audio.removeAttribute("src");
    this.audio.load();
  }

  open() {
    this.close();
    this.place = 0;
    this.movedAt = performance.now();
    // A query of its own each time, so that no cache gives an old piece of the stream.
    this.audio.src = "stream?t=" + Date.now().toString(36);
    this.audio.play().catch((error) => {
      if (!this.isWanted || error.name === "AbortError") return;
      if (error.name === "NotAllowedError") {
        this.stop();
        this.say("blocked");
      } else {
        this.again();
      }
    });
  }

  again() {
    if (!this.isWanted || this.retry) return;
    this.close();
    this.say("broken");
    this.retry = setTimeout(() => {
      this.retry = 0;
      this.open();
    }, Math.min(LONGEST_WAIT_MS, 500 * 2 ** this.tries));
    this.tries++;
  }

  /* The transmitter is there again: no need to wait any longer. */
  hurry() {
    if (!this.isWanted || !this.retry) return;
    this.tries = 0;
    this.open();
  }

  watch() {
    if (!this.isWanted || this.retry) return;
    if (this.audio.currentTime !== this.place) {
      this.place = this.audio.currentTime;
      this.movedAt = performance.now();
      this.tries = 0;
    } else if (performance.now() - this.movedAt > STUCK_AFTER_MS) {
      this.again();
    }
  }

  say(state) {
    if (state === this.state) return;
    this.state = state;
    this.onState(state);
  }
}
