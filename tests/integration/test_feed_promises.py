"""What `tower feed --help` promises, judged by the samples that arrive at the other end."""
import os
import pty
import signal
import socket
import subprocess
import time

import numpy

from harness import TOWER, TowerTestCase, takes, wait_until
import sound

FRAME = 1152


class Receiver:
    """The transmitter's end of the socket, in the hands of the test."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.listener.settimeout(60)
        self.connection = None

    def accept(self):
        self.connection = self.listener.accept()[0]
        self.connection.settimeout(60)

    def read(self, n_bytes=None):
        """So many bytes, or all up to the end; fewer where it ends before."""
        data = bytearray()
        while n_bytes is None or len(data) < n_bytes:
            piece = self.connection.recv(65536 if n_bytes is None else n_bytes - len(data))
            if not piece:
                break
            data += piece
        return bytes(data)

    def hang_up(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def close(self):
        self.hang_up()
        self.listener.close()


def samples(data):
    return numpy.frombuffer(data, "<i2").reshape(-1, 2)


def noise(n_samples):
    """No two places are alike, and none of it is silence."""
    values = numpy.random.default_rng(n_samples).integers(1, 20000, (n_samples, 2))
    return values.astype("<i2")


def padded(audio, frame=FRAME):
    """With silence up to a whole frame."""
    return numpy.concatenate([audio, numpy.zeros((-len(audio) % frame, 2), "<i2")])


class TestFeedPromises(TowerTestCase):
    def setUp(self):
        super().setUp()
        self.socket_path = self.path("pcm.sock")

    def receiver(self):
        receiver = Receiver(self.socket_path)
        self.addCleanup(receiver.close)
        return receiver

    def start_feed(self, *words, **options):
        return self.start(TOWER, "feed", *words, "--socket", self.socket_path, name="feed",
                          **options)

    def wav(self, audio, rate=48000):
        return sound.write_wav(self.path(f"{len(audio)}-{rate}.wav"), audio, rate)

    def delivered(self, receiver, *words, **options):
        feeder = self.start_feed(*words, **options)
        receiver.accept()
        data = receiver.read()
        self.assertEqual(feeder.wait(), 0, feeder.stderr())
        self.assertEqual(feeder.stderr(), "")
        return samples(data)

    def refused(self, code, *words, has=(), **options):
        """It ends with `code` and one line that has the words."""
        feeder = self.start_feed(*words, **options)
        self.assertEqual(feeder.wait(), code, feeder.stderr())
        said = feeder.stderr()
        print(f"  {said.strip()}")
        self.assertEqual(said.count("\n"), 1, said)
        for word in has:
            self.assertIn(word, said)
        return said

    # ---- every sample ----

    @takes(6)
    def test_a_file_of_any_length_arrives_whole_and_padded_to_a_frame(self):
        receiver = self.receiver()
        for length in (1, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, 70001):
            audio = noise(length)
            got = self.delivered(receiver, self.wav(audio))
            self.assertTrue(numpy.array_equal(got, padded(audio)), (length, len(got)))

    def test_another_frame_is_padded_to(self):
        receiver = self.receiver()
        audio = noise(1025)
        got = self.delivered(receiver, self.wav(audio), "--frame-samples", "1024")
        self.assertTrue(numpy.array_equal(got, padded(audio, 1024)), len(got))

    @takes(6)
    def test_a_lossless_file_arrives_as_it_is(self):
        receiver = self.receiver()
        audio = noise(50000)
        path = self.wav(audio)
        for kind, *words in (("flac",), ("aiff",), ("m4a", "-c:a", "alac"),
                             ("24.wav", "-c:a", "pcm_s24le"), ("f.wav", "-c:a", "pcm_f32le")):
            other = sound.convert(path, self.path(f"other.{kind}"), *words)
            got = self.delivered(receiver, other)
            self.assertTrue(numpy.array_equal(got, padded(audio)), (kind, len(got)))

    @takes(6)
    def test_every_rate_keeps_its_length_and_pitch(self):
        receiver = self.receiver()
        for rate in (8000, 11025, 44100, 96000, 192000):
            wave = numpy.sin(2 * numpy.pi * 1000 * numpy.arange(rate) / rate)
            got = self.delivered(receiver, self.wav(sound.stereo(0.5 * wave)[:, :1], rate))
            self.assertEqual(len(got), 42 * FRAME, "1 s is 41.7 frames")
            self.assertFalse(got[48000:].any(), "what is padded is silence")
            self.assertTrue(got[47000:48000].any(), "the end is there")
            self.assertTrue(numpy.array_equal(got[:, 0], got[:, 1]), "mono is on both sides")
            heard = sound.mono(got)[:48000]
            self.assertAlmostEqual(sound.frequency_of(heard), 1000, delta=0.5)
            # Nothing is missing in the middle either: the sine runs through.
            halves = [sound.strength_of(half, 1000) for half in (heard[:24000], heard)]
            self.assertAlmostEqual(halves[0], 0.5 * 32767, delta=300)
            self.assertAlmostEqual(halves[1], 0.5 * 32767, delta=300)

    @takes(8)
    def test_short_files_through_a_real_transmitter(self):
        server = self.serve("--grace", "0")
        live = 0
        for length, rate, frames in ((1, 48000, 1), (FRAME, 48000, 1), (FRAME + 1, 48000, 2),
                                     (44100, 44100, 42)):
            feeder = self.feed(server, self.wav(noise(length), rate))
            self.assertEqual(feeder.wait(), 0, feeder.stderr())
            live += frames
            server.wait_status(lambda s, n=live: s["frames_by_origin"]["live"] >= n and
                               s["origin"] != "live", f"{frames} more frames were on air")
        status = server.status()
        self.assertEqual(status["frames_by_origin"]["live"], live)
        self.assertEqual(status["producers"]["partial_frames"], 0)
        self.stop(server)

    def test_stdin_in_odd_pieces_with_pauses(self):
        receiver = self.receiver()
        audio = noise(3 * FRAME + 17)
        data = audio.tobytes() + b"xyz"  # the last, part of a sample, is none
        feeder = self.start_feed("-", stdin=subprocess.PIPE)
        receiver.accept()
        stdin = feeder.process.stdin
        for at in range(0, 2 * FRAME * 4, 4608):
            # Its writer stalls until the frame has gone through.
            for begin, end in ((0, 1), (1, 1003), (1003, 4608)):
                stdin.write(data[at + begin:at + end])
                stdin.flush()
            self.assertEqual(receiver.read(4608), data[at:at + 4608])
        stdin.write(data[2 * 4608:])
        stdin.close()
        rest = samples(receiver.read())
        self.assertTrue(numpy.array_equal(rest, padded(audio[2 * FRAME:])), len(rest))
        self.assertEqual(feeder.wait(), 0, feeder.stderr())

    @takes(6)
    def test_a_fifo_is_a_file(self):
        receiver = self.receiver()
        audio = noise(5000)
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        self.start("sh", "-c", f"cat {self.wav(audio)} >{fifo}")
        got = self.delivered(receiver, fifo)
        self.assertTrue(numpy.array_equal(got, padded(audio)), len(got))

    # ---- where the transmitter is not there ----

    @takes(6)
    def test_a_file_and_stdin_wait_for_it(self):
        audio = noise(4000)
        path = self.wav(audio)
        with open(self.path("raw"), "wb") as file:
            file.write(audio.tobytes())
        for words in ([path], ["-"]):
            with open(self.path("raw"), "rb") as stdin:
                feeder = self.start_feed(*words, stdin=stdin)
            wait_until(lambda: "no transmitter" in feeder.stderr(), "it says so")
            self.assertIn("tower serve", feeder.stderr(), "and what to do")
            receiver = self.receiver()
            receiver.accept()
            got = samples(receiver.read())
            self.assertEqual(feeder.wait(), 0, feeder.stderr())
            self.assertTrue(numpy.array_equal(got, padded(audio)), (words, len(got)))
            receiver.close()
            os.unlink(self.socket_path)

    @takes(6)
    def test_a_file_goes_on_when_it_is_back(self):
        receiver = self.receiver()
        audio = noise(400000)
        feeder = self.start_feed(self.wav(audio))
        receiver.accept()
        first = receiver.read(100001)  # in the middle of a sample
        self.assertEqual(first, audio.tobytes()[:100001])
        receiver.hang_up()
        receiver.accept()
        second = samples(receiver.read())
        self.assertEqual(feeder.wait(), 0, feeder.stderr())
        self.assertIn("went away", feeder.stderr())
        # Lost is what was under way when it went, and nothing else.
        begin = len(audio) - len(second) + (-len(second) % FRAME)
        ends = [at for at in range(begin, begin + FRAME + 1)
                if at >= 25000 and numpy.array_equal(audio[at:], second[:len(audio) - at])]
        self.assertEqual(len(ends), 1, "it goes on at a whole sample, to the end")
        self.assertFalse(second[len(audio) - ends[0]:].any(), "then silence")
        self.assertEqual(len(second) % FRAME, 0)
        self.assertLess(ends[0], 200000)

    @takes(5)
    def test_the_mock_drops_what_cannot_be_delivered(self):
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        feeder = subprocess.Popen([TOWER, "feed", "mock:tone", "--socket", self.socket_path],
                                  stdin=subprocess.DEVNULL, stderr=slave)
        self.addCleanup(feeder.wait)
        self.addCleanup(feeder.kill)
        os.close(slave)
        shown = b""
        while b"s dropped" not in shown:
            shown += os.read(master, 4096)
        feeder.terminate()
        self.assertEqual(feeder.wait(10), 0)

    @takes(8)
    def test_it_waits_while_another_is_on_air(self):
        server = self.serve("--grace", "0")
        first = self.feed(server, "mock:tone")
        server.wait_origin("live")
        second = self.feed(server, self.wav(noise(200000)))
        wait_until(lambda: "another producer is on air" in second.stderr(), "it says that it waits")
        self.assertTrue(second.runs())
        first.kill(signal.SIGTERM)
        self.assertEqual(second.wait(), 0, second.stderr())
        self.assertIn(": on air", second.stderr())
        self.stop(server)

    # ---- how it ends ----

    @takes(8)
    def test_a_signal_ends_it_in_order(self):
        receiver = self.receiver()
        path = self.wav(noise(400000))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            for words, code in (([path], 1), ([path, "--loop"], 0), (["mock"], 0), (["-"], 0)):
                feeder = self.start_feed(*words, stdin=subprocess.PIPE)
                receiver.accept()
                if words == ["-"]:
                    feeder.process.stdin.write(bytes(4608))
                    feeder.process.stdin.flush()
                receiver.read(4608)  # and nothing more: a file's writes wait
                feeder.kill(number)
                self.assertEqual(feeder.wait(), code, (words, number, feeder.stderr()))
                receiver.hang_up()

    def test_under_nohup_a_hangup_is_nothing(self):
        receiver = self.receiver()
        feeder = self.start("sh", "-c", f"trap '' HUP; exec {TOWER} feed mock "
                            f"--socket {self.socket_path}", name="feed")
        receiver.accept()
        receiver.read(4608)
        feeder.kill(signal.SIGHUP)
        self.assertEqual(len(receiver.read(10 * 4608)), 10 * 4608)
        feeder.kill(signal.SIGTERM)
        self.assertEqual(feeder.wait(), 0)

    @takes(5)
    def test_paced_is_no_faster_than_real_time(self):
        receiver = self.receiver()
        audio = noise(48000)
        path = self.wav(audio)
        began = time.monotonic()
        feeder = self.start_feed(path, "--paced")
        receiver.accept()
        got = samples(receiver.read())
        self.assertGreaterEqual(time.monotonic() - began, 1.0)
        self.assertTrue(numpy.array_equal(got, padded(audio)), len(got))
        self.assertEqual(feeder.wait(), 0, feeder.stderr())

    # ---- what it cannot read ----

    @takes(6)
    def test_each_error_is_one_line(self):
        receiver = self.receiver()
        path = self.wav(noise(1000))
        with open(path, "rb") as file:
            whole = file.read()
        for name, data in (("empty", b""), ("text", b"hello\n" * 50), ("header.wav", whole[:44]),
                           ("half.wav", whole[:20])):
            with open(self.path(name), "wb") as file:
                file.write(data)
            self.refused(1, self.path(name), has=[name])
        os.mkdir(self.path("bare"))
        self.refused(1, self.path("bare"), has=["bare", "no audio file"])
        self.refused(1, "/dev/null", has=["/dev/null"])
        self.refused(1, self.path("none.wav"), has=["no such file"])
        self.refused(2, "mock", "--rate", "999", has=["--rate 999", "1000"])
        self.refused(2, path, "--rate", "44100", has=["--rate"])
        self.refused(2, path, "-xh", has=["-x"])
        self.refused(2, "-", "--loop", has=["--loop"])
        receiver.listener.settimeout(0)
        with self.assertRaises(BlockingIOError):
            receiver.accept()

    def test_of_a_damaged_file_what_came_before_is_sent(self):
        receiver = self.receiver()
        audio = noise(50000)
        path = sound.convert(self.wav(audio), self.path("whole.flac"))
        with open(path, "rb") as whole, open(self.path("cut.flac"), "wb") as cut:
            data = whole.read()
            cut.write(data[:len(data) // 2])
        feeder = self.start_feed(self.path("cut.flac"))
        receiver.accept()
        got = samples(receiver.read())
        self.assertEqual(feeder.wait(), 1, feeder.stderr())
        self.assertEqual(feeder.stderr().count("\n"), 1, feeder.stderr())
        self.assertIn("cut.flac", feeder.stderr())
        ends = numpy.flatnonzero(got.any(axis=1))
        self.assertGreater(len(ends), 10000)
        self.assertTrue(numpy.array_equal(got[:ends[-1] + 1], audio[:ends[-1] + 1]))
