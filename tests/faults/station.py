"""A station under test: the real transmitter, fed and listened to for as long as it is on air."""
import ctypes
import json
import mmap
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "integration"))

import harness  # noqa: E402  (needs the path above)
from harness import ROOT, TOWER, Program, RawProducer, Server, wait_until  # noqa: E402
from listening import FRAME_SECONDS, Listener, mp3_frames  # noqa: E402
import sound  # noqa: E402

RECORDERS = 4
AIRCHECKS = 2
# What the promptest arrival is looked for in, after a fault is over.
TAIL_SECONDS = 0.7
PR_SET_PDEATHSIG = 1


class Recorder(Listener):
    """A listener that is there all the time, and is asked now and then what came."""

    def __init__(self, port):
        self.lock = threading.Lock()
        self.first_frame = 0  # number of the first frame in `body`
        self.last_arrival = None
        super().__init__(port)

    def _take(self, piece):
        with self.lock:
            super()._take(piece)

    def cut(self):
        """What came since the last cut, in whole frames."""
        with self.lock:
            offsets, end = mp3_frames(self.body)
            piece = Piece(bytes(self.body[:end]), self.first_frame, offsets, end,
                          [at for at in self.arrivals], self.last_arrival)
            self.first_frame += len(offsets)
            if self.arrivals:
                self.last_arrival = self.arrivals[-1][0]
            del self.body[:end]
            # A part of a frame has come already; its last byte will tell when the frame came.
            self.arrivals = []
        return piece


class Piece:
    """Part of what a listener got."""

    def __init__(self, mp3, first_frame, offsets, end, arrivals, arrival_before):
        self.mp3 = mp3
        self.n_frames = len(offsets)
        gaps = [later[0] - earlier[0] for earlier, later in zip(arrivals, arrivals[1:])]
        if arrival_before is not None and arrivals:
            gaps.append(arrivals[0][0] - arrival_before)
        self.longest_gap = max(gaps, default=0.0)
        # How much later than by its number the promptest frame of the tail came: a machine with
        # other work only ever makes an arrival later.
        self.lag = None
        frame = 0
        for at, total in arrivals:
            while frame < len(offsets) and (offsets[frame + 1] if frame + 1 < len(offsets)
                                            else end) <= total:
                frame += 1
            if frame > 0 and at > arrivals[-1][0] - TAIL_SECONDS:
                lag = at - (first_frame + frame - 1) * FRAME_SECONDS
                self.lag = lag if self.lag is None else min(self.lag, lag)

    def decode(self):
        """Any word of mpg123 that is not of a good stream is an error."""
        done = subprocess.run(["mpg123", "-q", "--no-gapless", "-t", "-"], input=self.mp3,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
                              check=False)
        said = done.stderr.decode(errors="replace")
        assert done.returncode == 0 and not said.strip(), \
            f"mpg123, exit code {done.returncode}: {said}"


class Witness:
    """A process that only sleeps, and tells how long the machine kept it from waking up."""

    def __init__(self):
        self.shared = mmap.mmap(-1, 8)
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                while os.getppid() == parent:
                    self.watch()
            finally:
                os._exit(0)

    def watch(self):
        before = time.monotonic()
        time.sleep(0.02)
        late = time.monotonic() - before - 0.02
        if late > struct.unpack("d", self.shared[:])[0]:
            self.shared[:] = struct.pack("d", late)

    def take(self):
        """The longest since it was last asked, in seconds."""
        late = struct.unpack("d", self.shared[:])[0]
        self.shared[:] = struct.pack("d", 0.0)
        return late

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class SharedWords:
    """A file of 64-bit words that a program under test has mapped too."""

    def __init__(self, path, count):
        with open(path, "wb") as file:
            file.write(bytes(8 * count))
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 8 * count)

    def __getitem__(self, i):
        return struct.unpack_from("<q", self.map, 8 * i)[0]

    def __setitem__(self, i, value):
        struct.pack_into("<q", self.map, 8 * i, value)


def mount_small_disk(folder):
    """A tmpfs of 32 MB that only this process and its children see; False where not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    os.makedirs(folder)
    return libc.mount(b"none", folder.encode(), b"tmpfs", 0, b"size=32m") == 0


def get_private_mounts():
    """Before any thread begins: let this process mount what others don't see, if it may."""
    clone_newns, clone_newuser, ms_rec, ms_private = 0x20000, 0x10000000, 0x4000, 0x40000
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(clone_newns) != 0:
        uid, gid = os.getuid(), os.getgid()
        if libc.unshare(clone_newns | clone_newuser) != 0:
            return
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"),
                           ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    libc.mount(b"none", b"/", None, ms_rec | ms_private, None)


class Station:
    """A transmitter with ffmpeg and its spare, a feeder, and listeners of two kinds."""

    flags = ["--encoder", "ffmpeg", "--encoder-backoff-ms", "200", "--encoder-max-restarts", "3",
             "--grace", "0.5", "--dead-air-after", "1", "--client-timeout-ms", "2000",
             "--client-buffer-bytes", "16384"]
    has_ffmpeg = True
    program = TOWER

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="tower-faults-", dir="/tmp")
        self.programs = []
        self.own = []  # what a fault has opened: ended when it is over
        self.witness = Witness()
        self.shift = SharedWords(self.path("shift"), 2)  # see clock_shift.c
        self.asleep = 0.0  # in this fault, by a clock that the transmitter does not have
        self.recorders = []
        self.said_until = 0.0  # that no descriptor is left is not said again before
        self.skipped_in_all = 0
        try:
            self.begin()
        except BaseException:
            self.end()
            raise

    def path(self, name):
        return os.path.join(self.folder, name)

    def environment(self):
        return {"LD_PRELOAD": os.path.join(harness.BUILD, "tests/faults/clock_shift.so"),
                "CLOCK_SHIFT_FILE": self.path("shift")}

    def begin(self):
        self.disk = self.path("disk")
        self.has_disk = mount_small_disk(self.disk)
        self.be_good()
        self.song = sound.write_wav(self.path("song.wav"),
                                    sound.stereo(sound.tone([330, 495, 1210], 20, peak=0.4)))
        self.journal = os.path.join(self.disk, "journal")
        self.log_from = 0
        flags = self.flags + ["--journal", self.journal]
        flags += ["--ffmpeg", self.path("ffmpeg")] if self.has_ffmpeg else []
        self.server = Server(self.disk, "serve", flags, self.environment(), self.program)
        self.programs.append(self.server)
        self.server.wait_ready()
        self.feeder = None
        self.ensure_live()
        if self.has_ffmpeg:
            self.server.wait_encoder("on air", 60)
        self.recorders = [Recorder(self.server.port) for _ in range(RECORDERS)]
        self.airchecks = [
            self.start(TOWER, "aircheck", self.server.url, "--seconds", "0", "--max-gap-ms", "0",
                       "--json", name=f"aircheck{i}") for i in range(AIRCHECKS)]
        self.server.wait_status(lambda s: s["listeners"]["current"] == RECORDERS + AIRCHECKS,
                                "all listeners are there")
        # The first burst comes ahead of its time.
        for recorder in self.recorders:
            recorder.wait_bytes(384 * 84 + 384 * 60)
        self.lags = [recorder.cut().lag for recorder in self.recorders]
        self.status_before = self.server.status()
        self.witness.take()
        self.descriptors = self.calm_descriptors()
        self.threads = self.count_threads()

    # ---- what faults use ----

    @property
    def pid(self):
        """Of the process that serves."""
        return wait_until(lambda: self.server.worker, "there is a worker")

    def processes(self):
        """All of the station, in the order to stop them in: the keeper would replace a worker that
        stands still, and the worker an ffmpeg."""
        worker = self.pid
        return [self.server.pid, worker, *harness.children_of(worker)]

    def status(self):
        return self.server.status()

    def start(self, *command, name, **options):
        program = Program(self.folder, name, command, **options)
        self.programs.append(program)
        return program

    def keep(self, thing):
        """To be closed when the fault is over."""
        self.own.append(thing)
        return thing

    def feed(self):
        """Another feeder that plays the song on and on."""
        name = f"feed{sum(p.name.startswith('feed') for p in self.programs)}"
        return self.start(TOWER, "feed", "--loop", self.song, "--socket", self.server.socket_path,
                          name=name)

    def produce(self):
        return self.keep(RawProducer(self.server.socket_path))

    def ensure_live(self):
        if not self.feeder or not self.feeder.runs():
            self.feeder = self.feed()
        self.server.wait_origin("live")

    def stop_feeder(self):
        self.feeder.kill(signal.SIGTERM)
        self.feeder.wait()
        self.programs.remove(self.feeder)

    def child(self):
        return self.status()["encoder"]["child_pid"]

    def child_of_encoder(self):
        """The same, without asking the transmitter."""
        pids = harness.children_of(self.pid)
        return pids[0] if pids else 0

    def be_good(self, how=""):
        """The next ffmpeg is the real one; or goes bad after a while, see bad_ffmpeg.py."""
        script = self.path("ffmpeg.new")
        run = "ffmpeg" if not how else f"/usr/bin/python3 {HERE}/bad_ffmpeg.py '{how}'"
        with open(script, "w", encoding="ascii") as file:
            file.write(f'#!/bin/sh\nexec {run} "$@"\n')
        os.chmod(script, 0o755)
        os.rename(script, self.path("ffmpeg"))

    def wait_ticks(self, n):
        """Until `n` more have been put on air."""
        emitted = self.status()["ticks"]["emitted"] + n
        return self.server.wait_status(lambda s: s["ticks"]["emitted"] >= emitted,
                                       f"{n} ticks later")

    def wait_ffmpeg_on_air(self, not_pid=0):
        """Wait until an ffmpeg other than `not_pid` is on air; returns how long."""
        began = time.monotonic()
        self.server.wait_status(
            lambda s: s["encoder"]["state"] == "on air" and
            s["encoder"]["child_pid"] not in (0, not_pid), "ffmpeg is on air again", 60)
        return time.monotonic() - began

    def log(self):
        """What it has said since the last fault."""
        with open(self.server.stderr_path, "rb") as file:
            file.seek(self.log_from)
            return file.read().decode(errors="replace")

    # ---- what the judge uses ----

    def count_threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1)) * 1024

    def calm_descriptors(self):
        """How many are open when nobody asks anything."""
        lowest = [10 ** 9]

        def is_lowest():
            count = harness.open_descriptors(self.pid)
            if count < lowest[0]:
                lowest[:] = [count, time.monotonic()]
            return time.monotonic() - lowest[1] > 0.15
        wait_until(is_lowest, "descriptors are counted")
        return lowest[0]

    def settle(self):
        """A fault is over: put back what it took, and wait until all is as it was."""
        self.end_own()
        self.be_good()
        self.ensure_live()
        if self.has_ffmpeg:
            self.wait_ffmpeg_on_air()
        self.server.wait_status(
            lambda s: s["listeners"]["current"] == RECORDERS + AIRCHECKS and
            s["producers"]["connected"] == 1, "only those who stay are connected")
        wait_until(lambda: self.calm_descriptors() <= self.descriptors,
                   f"no more than {self.descriptors} descriptors are open")
        wait_until(lambda: self.count_threads() == self.threads, f"{self.threads} threads run")
        time.sleep(TAIL_SECONDS + 0.1)  # frames by which the clock is read

    def judge(self, stall):
        """What came since the last time; `stall` is how long the transmitter was held up."""
        status = self.status()
        late = self.witness.take()
        skipped = status["ticks"]["skipped"] - self.status_before["ticks"]["skipped"]
        resyncs = status["ticks"]["resyncs"] - self.status_before["ticks"]["resyncs"]
        self.status_before = status
        self.skipped_in_all += skipped
        pieces = [recorder.cut() for recorder in self.recorders]
        before, self.lags = self.lags, [piece.lag for piece in pieces]
        worst_lost, longest_gap = 0.0, 0.0
        for recorder, piece, lag in zip(self.recorders, pieces, before):
            assert recorder.ending is None, f"a listener was lost: {recorder.ending}"
            assert piece.lag is not None, "nothing came to a listener at the end"
            piece.decode()
            lost = (piece.lag - lag - self.asleep) / FRAME_SECONDS - skipped
            worst_lost = max(worst_lost, lost, key=abs)
            longest_gap = max(longest_gap, piece.longest_gap)
        for aircheck in self.airchecks:
            assert aircheck.runs(), f"an aircheck ended: {aircheck.stdout()}{aircheck.stderr()}"
        self.asleep = 0.0
        found = f"recovery {longest_gap * 1000:.0f} ms, clock {worst_lost:+.2f} frames"
        if skipped:
            found += f", {skipped} ticks skipped and counted"
        # A clock that is set anew leaves out a part of a tick too, which is not counted.
        assert abs(worst_lost) <= 1.05 * max(1, resyncs), f"frames against the wall clock: {found}"
        # The machine may have been held up by others, which the witness then was too.
        assert longest_gap <= stall + 0.5 + 2 * late, f"a gap: {found}; the witness: {late:.3f} s"
        assert skipped == 0 or stall + late > 0.2, f"{found}, with nothing in the way"
        assert resyncs <= 1 or late > 0.2, f"{resyncs} resyncs; {found}"
        assert status["state"] == "on air" and self.server.runs()
        said = harness.SANITIZER.search(self.log())
        assert not said, f"the transmitter said: {said.group()}"
        self.log_from = os.path.getsize(self.server.stderr_path)
        return found

    def judge_airchecks(self):
        """Those who listened all the time, and decoded with another decoder."""
        words = []
        for aircheck in self.airchecks:
            aircheck.kill(signal.SIGINT)
            aircheck.wait()
            heard = json.loads(aircheck.stdout())
            bad = {key: heard[key] for key in (
                "lost_syncs", "junk_bytes", "format_changes", "reservoir_frames", "broken_frames",
                "decoder_errors", "ended_early") if heard[key]}
            assert not bad, f"aircheck heard {bad}: {heard['faults']}"
            missing = heard["clock_expected_frames"] - heard["clock_frames"] - self.skipped_in_all
            words.append(f"{heard['mp3_frames']} frames, {missing:+.1f} against the clock")
        return "; ".join(words)

    def stop(self):
        """In order, as a person would."""
        code = self.server.stop()
        assert code == 0, f"the transmitter ended with {code}: {self.log()[-2000:]}"

    # ---- ending ----

    def end_own(self):
        while self.own:
            self.own.pop().close()

    def end(self):
        self.end_own()
        for recorder in self.recorders:
            recorder.hang_up_unjudged()
        for program in self.programs:
            program.end()
        self.witness.end()
        ctypes.CDLL(None).umount2(self.path("disk").encode(), 2)
        shutil.rmtree(self.folder, ignore_errors=True)
