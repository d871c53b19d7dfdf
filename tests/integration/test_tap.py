"""The programme as PCM, as /pcm and `tower tap` give it: what it is, when it was, and who waits for whom."""
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import numpy

import sound
from harness import BUILD, ROOT, TOWER, TowerTestCase, takes, wait_until

HEADER = struct.Struct("<4sHBBQqQII")
TONE_HZ = 997
AMPLITUDE = 0.5
LIVE = 0


class Chunk:
    def __init__(self, header, body, channels):
        (self.magic, self.header_bytes, self.origin, self.flags, self.sequence, self.time_ns,
         self.air_frame, self.samples, self.bytes) = HEADER.unpack(header)
        self.pcm = numpy.frombuffer(body, "<i2").reshape(-1, channels)
        self.came_ns = time.time_ns()


class Tap(threading.Thread):
    """Reads chunks with timestamps until it is hung up."""

    def __init__(self, port, rate, channels, samples):
        super().__init__(daemon=True)
        self.rate, self.channels, self.samples = rate, channels, samples
        self.chunks = []
        self.error = None
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.sendall(f"GET /pcm?rate={rate}&channels={channels}&samples={samples}"
                            f"&timestamps=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        while self.file.readline() not in (b"\r\n", b""):
            pass
        self.start()

    def run(self):
        try:
            while True:
                header = self.file.read(HEADER.size)
                body = self.file.read(2 * self.channels * self.samples)
                if len(body) < 2 * self.channels * self.samples:
                    return
                self.chunks.append(Chunk(header, body, self.channels))
        except OSError as error:
            self.error = error

    def seconds(self):
        return len(self.chunks) * self.samples / self.rate

    def hang_up(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.join(10)
        self.file.close()
        self.socket.close()
        return self.chunks


def judge_chunks(case, chunks, rate, samples):
    """Nothing is missing, and each begins when the one before it ends."""
    case.assertGreater(len(chunks), 3)
    for n, chunk in enumerate(chunks):
        case.assertEqual(chunk.magic, b"TPCM")
        case.assertEqual(chunk.header_bytes, HEADER.size)
        case.assertEqual(chunk.sequence, n)
        case.assertEqual(chunk.samples, samples)
        case.assertEqual(chunk.flags, 1 if n == 0 else 0)
        began = chunk.time_ns - chunks[0].time_ns
        case.assertLessEqual(abs(began - n * samples * 10**9 // rate), 2)
        case.assertGreaterEqual(chunk.air_frame, chunks[n - 1].air_frame if n else 0)


def judge_tone(case, chunks, rate):
    """The tone in each channel: its frequency, its level, and next to nothing beside it."""
    # Before its first sample a tap knows of none, and the resampler's filter takes silence.
    pcm = numpy.concatenate([chunk.pcm for chunk in chunks]).astype(float)[rate // 50:]
    for channel in pcm.T:
        at = numpy.arange(len(channel)) / rate
        parts = numpy.stack([numpy.sin(2 * numpy.pi * TONE_HZ * at),
                             numpy.cos(2 * numpy.pi * TONE_HZ * at)], axis=1)
        fit, _, _, _ = numpy.linalg.lstsq(parts, channel, rcond=None)
        level = numpy.hypot(*fit) / 32767
        rest = numpy.abs(channel - parts @ fit).max()
        print(f"  {rate} Hz: level {level:.5f}, largest difference from the tone {rest:.1f}")
        case.assertAlmostEqual(level, AMPLITUDE, delta=0.001)
        # One sample that was missing or doubled would be far more.
        case.assertLess(rest, 6)


class TestPcm(TowerTestCase):
    def live_tone(self, server, seconds):
        """A producer with the tone; live from its first sample on."""
        pcm = sound.stereo(sound.tone([TONE_HZ], seconds, AMPLITUDE)).tobytes()
        producer = self.produce(server)
        producer.start_sending([pcm], close_at_end=False)
        server.wait_origin("live")
        return producer

    @takes(15)
    def test_eight_taps_at_once_and_one_that_never_reads(self):
        server = self.serve("--grace", "0", "--tone-frequency", "0", "--client-timeout-ms", "3000")
        self.live_tone(server, 40)
        time_before = time.time_ns()
        before = server.wait_status(lambda s: s["origin_seconds"] > 0.5, "the tone is on air")
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", server.port))
        deaf.sendall(b"GET /pcm?rate=48000&channels=2 HTTP/1.1\r\nHost: x\r\n\r\n")
        self.addCleanup(deaf.close)
        taps = [Tap(server.port, *((16000, 1, 1600) if i % 2 else (48000, 2, 4800)))
                for i in range(8)]
        server.wait_status(lambda s: s["taps"]["current"] == 9, "all nine tap")
        wait_until(lambda: all(tap.seconds() > 4 for tap in taps), "four seconds have come")
        after = server.wait_status(lambda s: s["taps"]["timeouts"] == 1, "the deaf one is dropped")
        time_after = time.time_ns()
        all_chunks = [tap.hang_up() for tap in taps]
        status = server.wait_status(lambda s: s["taps"]["current"] == 0, "all are gone")
        for tap, chunks in zip(taps, all_chunks):
            self.assertEqual(tap.status, 200)
            judge_chunks(self, chunks, tap.rate, tap.samples)
            judge_tone(self, chunks, tap.rate)
            delays = [(chunk.came_ns - chunk.time_ns) / 1e6 for chunk in chunks]
            print(f"  {tap.rate} Hz: a chunk comes {min(delays):.0f} to {max(delays):.0f} ms after "
                  "the time of its first sample")
            for chunk in chunks:
                self.assertEqual(chunk.origin, LIVE)
                self.assertTrue(time_before < chunk.time_ns < time_after)
                # The stream is where it says, give or take what encoder and machine take.
                self.assertTrue(before["air"]["frames"] <= chunk.air_frame
                                <= after["air"]["frames"] + 100)
        self.assertEqual(status["taps"]["accepted"], 9)
        self.assertGreater(status["taps"]["chunks_lost"], 0)
        for what in ("late", "skipped", "write_errors"):
            self.assertEqual(after["ticks"][what], before["ticks"][what], what)
        self.stop(server)

    @takes(8)
    def test_two_taps_have_the_same_sound_at_the_same_time(self):
        server = self.serve("--grace", "0", "--tone-frequency", "0")
        self.live_tone(server, 30)
        taps = [Tap(server.port, 48000, 2, 1152), Tap(server.port, 48000, 2, 960)]
        wait_until(lambda: all(tap.seconds() > 1.5 for tap in taps), "they have something")
        heard = []
        for tap in taps:
            chunks = tap.hang_up()
            heard.append((chunks[0].time_ns, numpy.concatenate([c.pcm for c in chunks])))
        heard.sort(key=lambda one: one[0])
        apart = round((heard[1][0] - heard[0][0]) * 48000 / 1e9)
        both = min(len(heard[0][1]) - apart, len(heard[1][1]))
        self.assertGreater(both, 24000)
        self.assertTrue((heard[0][1][apart:apart + both] == heard[1][1][:both]).all())
        self.stop(server)

    @takes(10)
    def test_across_seams_nothing_is_missing_and_nothing_steps(self):
        server = self.serve("--grace", "0", "--tone-frequency", "300", "--tone-level", "-6")
        taps = [Tap(server.port, 48000, 2, 480), Tap(server.port, 16000, 1, 1600)]
        wait_until(lambda: all(tap.chunks for tap in taps), "both have something")
        for phase in (1.0, 2.5):
            pcm = sound.stereo(sound.tone([TONE_HZ], 1.0, AMPLITUDE, phase)).tobytes()
            producer = self.produce(server)
            producer.start_sending([pcm])
            server.wait_origin("live")
            server.wait_origin("tone")
        seams = server.status()["ticks"]["seams"]
        self.assertGreaterEqual(seams, 4)
        ends = [tap.seconds() + 0.5 for tap in taps]
        wait_until(lambda: all(t.seconds() > end for t, end in zip(taps, ends)), "it went on")
        for tap in taps:
            chunks = tap.hang_up()
            judge_chunks(self, chunks, tap.rate, tap.samples)
            origins = [chunk.origin for chunk in chunks]
            changes = sum(a != b for a, b in zip(origins, origins[1:]))
            self.assertGreaterEqual(changes, 4 if tap.samples == 480 else 2)
            pcm = numpy.concatenate([chunk.pcm for chunk in chunks]).astype(float)
            step = numpy.abs(numpy.diff(pcm[:, 0])).max()
            steepest = AMPLITUDE * 32767 * 2 * numpy.sin(numpy.pi * TONE_HZ / tap.rate)
            print(f"  {tap.rate} Hz, {changes} seams: steps of {step:.0f}, the tone's {steepest:.0f}")
            self.assertLess(step, 1.5 * steepest)
        self.stop(server)

    def test_what_cannot_be_had_is_refused_in_a_line(self):
        server = self.serve("--max-taps", "1")
        for query, word in (("rate=7999", "rate"), ("rate=16000x", "rate"), ("rate=", "rate"),
                            ("rate=99999999999999999999", "rate"), ("channels=0", "channels"),
                            ("channels=-1", "channels"), ("samples=1", "samples"),
                            ("format=mp3", "format"), ("timestamps=yes", "timestamps"),
                            ("timestamps=1&format=wav", "timestamps")):
            status, headers, body = server.get("/pcm?" + query)
            self.assertEqual(status, 400, query)
            self.assertRegex(body.decode(), rf"\A400 Bad Request: {word}: .*\n\Z")
        status, headers, _ = server.get("/pcm", "HEAD")
        self.assertEqual((status, headers["content-type"]),
                         (200, "audio/L16;rate=16000;channels=1;endianness=little-endian"))
        self.assertEqual(server.get("/pcm?format=wav", "HEAD")[1]["content-type"], "audio/wav")
        tap = Tap(server.port, 16000, 1, 1600)
        server.wait_status(lambda s: s["taps"]["current"] == 1, "it taps")
        status, headers, body = server.get("/pcm")
        self.assertEqual((status, headers["retry-after"]), (503, "10"), body)
        self.assertEqual(server.status()["taps"]["refused"], 1)
        tap.hang_up()
        server.wait_status(lambda s: s["taps"]["current"] == 0, "it is gone")
        again = Tap(server.port, 16000, 1, 1600)
        self.assertEqual(again.status, 200)
        again.hang_up()
        self.stop(server)
        server = self.serve("--max-taps", "0")
        self.assertEqual(server.get("/pcm")[0], 403)
        self.stop(server)


class TestRecognisers(TowerTestCase):
    """The examples: bursts of sound between silences, and what is printed of them."""

    SEGMENT = re.compile(r"^(\S+) to (\S+)  frame (\d+)  ([\d.]+) s  (-[\d.]+) dBFS$", re.M)

    def judge(self, begin):
        server = self.serve("--grace", "0", "--tone-frequency", "0")
        example = begin(server)
        server.wait_status(lambda s: s["taps"]["chunks"] > 3, "it taps")
        burst = sound.tone([TONE_HZ], 1.0, AMPLITUDE)
        silence = numpy.zeros(48000)
        producer = self.produce(server)
        began = time.time()
        producer.start_sending([sound.stereo(part).tobytes() for part in
                                (burst, silence, burst, silence)])
        wait_until(lambda: len(self.SEGMENT.findall(example.stdout())) == 2, "two were heard")
        segments = self.SEGMENT.findall(example.stdout())
        print("  " + "\n  ".join(" ".join(segment) for segment in segments))

        def seconds(text):
            hours, minutes, rest = text.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(rest)
        for begin, end, frame, length, level in segments:
            # A second, and what is begun of a chunk at either end.
            self.assertTrue(1.0 <= float(length) <= 1.25, segments)
            self.assertAlmostEqual((seconds(end) - seconds(begin)) % 86400, float(length), delta=0.06)
            self.assertAlmostEqual(float(level), -9.0, delta=0.2)
        apart = (seconds(segments[1][0]) - seconds(segments[0][0])) % 86400
        self.assertAlmostEqual(apart, 2.0, delta=0.11)
        self.assertAlmostEqual((int(segments[1][2]) - int(segments[0][2])) * 0.024, apart, delta=0.05)
        at = time.strftime("%H:%M:%S", time.localtime(began))
        self.assertLess((seconds(segments[0][0]) - seconds(at)) % 86400, 10)
        example.kill(signal.SIGINT)
        example.wait()
        self.assertEqual(example.stderr(), "")
        self.stop(server)

    @takes(8)
    def test_in_python(self):
        self.judge(lambda server: self.start(
            "/usr/bin/python3", os.path.join(ROOT, "examples/recogniser/recogniser.py"),
            f"http://127.0.0.1:{server.port}"))

    @takes(8)
    def test_in_c(self):
        def begin(server):
            tap = subprocess.Popen([TOWER, "tap", "--timestamps", f"http://127.0.0.1:{server.port}"],
                                   stdout=subprocess.PIPE)
            self.addCleanup(tap.wait)
            self.addCleanup(tap.kill)
            self.addCleanup(tap.stdout.close)
            return self.start(self.built(), stdin=tap.stdout)
        self.judge(begin)

    def built(self):
        path = os.path.join(BUILD, "examples/example-recogniser")
        if os.access(path, os.X_OK):
            return path
        # The build folder is another's: build it here, as a user would, against libtower.
        path = self.path("recogniser")
        subprocess.run(["cc", "-o", path, os.path.join(ROOT, "examples/recogniser/recogniser.c"),
                        "-I", os.path.join(ROOT, "include"), "-L", BUILD, "-ltower", "-lm",
                        f"-Wl,-rpath,{BUILD}"], check=True, timeout=60)
        return path


class TestTowerTap(TowerTestCase):
    def base(self, server):
        return f"http://127.0.0.1:{server.port}"

    def test_a_wav_file_of_some_seconds(self):
        server = self.serve("--grace", "0", "--tone-frequency", str(TONE_HZ), "--tone-level", "-6")
        path = self.path("heard.wav")
        tap = self.tower("tap", self.base(server), "--output", path, "--seconds", "1.55",
                         "--rate", "22050", "--channels", "2")
        self.assertEqual((tap.code, tap.stderr()), (0, ""))
        heard = sound.read_wav(path)
        self.assertEqual(heard.shape, (round(1.55 * 22050), 2))
        self.assertAlmostEqual(numpy.abs(heard[4000:].astype(float)).max() / 32768, 0.501, delta=0.01)
        # ffmpeg takes the endless one, too.
        sound.convert(self.base(server) + "/pcm?format=wav&rate=48000&channels=2", self.path("again.wav"),
                      "-t", "1")
        self.assertEqual(len(sound.read_wav(self.path("again.wav"))), 48000)
        self.stop(server)

    @takes(12)
    def test_it_connects_again_when_the_worker_is_killed(self):
        server = self.serve("--grace", "0")
        path = self.path("chunks")
        tap = self.start("sh", "-c", 'exec "$0" tap "$@" >' + path, TOWER,
                         self.base(server), "--timestamps", "--samples", "800")
        size = HEADER.size + 1600
        wait_until(lambda: os.path.exists(path) and os.path.getsize(path) > 10 * size, "it taps")
        worker = server.worker
        skipped = server.status()["ticks"]["skipped"]
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: "connected again" in tap.stderr(), "it has connected again")
        # Where another worker took so long that it gave up ticks, these have no frames.
        skipped = server.status()["ticks"]["skipped"] - skipped
        before = os.path.getsize(path)
        wait_until(lambda: os.path.getsize(path) > before + 10 * size, "it goes on")
        tap.kill(signal.SIGINT)
        self.assertEqual(tap.wait(), 0)
        with open(path, "rb") as file:
            data = file.read()
        self.assertEqual(len(data) % size, 0)
        chunks = [Chunk(data[at:at + HEADER.size], data[at + HEADER.size:at + size], 1)
                  for at in range(0, len(data), size)]
        again = [n for n, chunk in enumerate(chunks) if chunk.sequence == 0]
        self.assertEqual(len(again), 2)
        last, first = chunks[again[1] - 1], chunks[again[1]]
        self.assertEqual(first.flags, 1)
        self.assertGreater(first.time_ns, last.time_ns)
        # The stream's frames go on as the time does.
        frames = (first.time_ns - last.time_ns) / 24e6
        self.assertAlmostEqual(first.air_frame - last.air_frame, frames - skipped, delta=2)
        self.stop(server)

    def test_bad_usage_and_nobody_there(self):
        for words in (["--rate", "7"], ["--channels", "3"], ["--samples", "x"], ["--nothing"],
                      ["--seconds", "-1"], ["a", "b"], ["https://x"], ["http://x/?y"],
                      ["--timestamps", "--wav"], ["--timestamps", "--output", "x.wav"]):
            tap = self.tower("tap", *words)
            self.assertEqual(tap.code, 2, words)
            self.assertRegex(tap.stderr(), r"\Atower tap: .*\n\Z")
        path = self.path("kept")
        with open(path, "w", encoding="ascii") as file:
            file.write("kept")
        tap = self.tower("tap", "http://127.0.0.1:1", "--output", path)
        self.assertEqual(tap.code, 1)
        self.assertIn("127.0.0.1", tap.stderr())
        server = self.serve("--max-taps", "0")
        tap = self.tower("tap", self.base(server), "--output", path)
        self.assertEqual(tap.code, 1)
        self.assertIn("403 Forbidden: nobody may tap here", tap.stderr())
        with open(path, encoding="ascii") as file:
            self.assertEqual(file.read(), "kept")
        self.stop(server)
