"""`tower source-client`, as the transmitter starts it for a client that sends a programme."""
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import numpy

from harness import (CLEAN_ENVIRONMENT, TOWER, TowerTestCase, children_of, process_exists, takes,
                     wait_until)
from listening import Listener
import sound

SAMPLE_BYTES = 4
# What ffmpeg makes a stream of with, and what it is called then.
FORMATS = {
    "mp3": (["-c:a", "libmp3lame", "-b:a", "128k", "-f", "mp3"], "audio/mpeg"),
    "mp3 of 22050 Hz, mono": (["-c:a", "libmp3lame", "-b:a", "64k", "-ar", "22050", "-ac", "1",
                               "-f", "mp3"], "audio/mpeg"),
    "aac": (["-c:a", "aac", "-b:a", "96k", "-f", "adts"], "audio/aac"),
    "vorbis": (["-c:a", "libvorbis", "-b:a", "96k", "-page_duration", "200000", "-f", "ogg"],
               "application/ogg"),
    "opus": (["-c:a", "libopus", "-b:a", "64k", "-page_duration", "200000", "-f", "ogg"],
             "audio/ogg; codecs=opus"),
    "ogg flac": (["-c:a", "flac", "-page_duration", "200000", "-f", "ogg"], "audio/ogg"),
    "flac": (["-c:a", "flac", "-f", "flac"], "audio/flac"),
    "webm": (["-c:a", "libopus", "-b:a", "64k", "-f", "webm"], "audio/webm"),
    "wav": (["-c:a", "pcm_s16le", "-f", "wav"], "audio/wav"),
    "L16": (["-c:a", "pcm_s16be", "-ar", "44100", "-ac", "1", "-f", "s16be"],
            "audio/L16;rate=44100;channels=1"),
}


def encode(words, frequency, seconds, *more, rate=48000):
    """A tone as ffmpeg encodes it."""
    return subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i",
         f"sine=frequency={frequency}:sample_rate={rate}:duration={seconds}", "-ac", "2", *words,
         *more, "pipe:1"], check=True, stdout=subprocess.PIPE, timeout=60).stdout


class Sender:
    """A client: an end of a connection, and a thread that writes what an encoder makes as it is
    made, or bytes at some rate."""

    def __init__(self, case):
        listener = socket.create_server(("127.0.0.1", 0))
        self.socket = socket.create_connection(listener.getsockname())
        self.other = listener.accept()[0]
        listener.close()
        self.encoder = None
        self.thread = None
        self.goes_on = threading.Event()  # not set: it is paused
        self.goes_on.set()
        self.is_stopped = threading.Event()
        self.sent = 0
        case.addCleanup(self.stop)

    def send(self, data):
        self.socket.sendall(data)
        self.sent += len(data)

    def begin_encoding(self, words, frequency=997):
        self.encoder = subprocess.Popen(
            ["ffmpeg", "-nostdin", "-v", "quiet", "-re", "-f", "lavfi", "-i",
             f"sine=frequency={frequency}:sample_rate=48000:duration=100", "-ac", "2", *words,
             "-flush_packets", "1", "pipe:1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=CLEAN_ENVIRONMENT)
        self._begin(lambda: os.read(self.encoder.stdout.fileno(), 4096))

    def begin_pieces(self, data, bytes_per_second):
        at = iter(range(0, len(data), bytes_per_second // 20))

        def piece():
            self.is_stopped.wait(0.05)  # its pace
            begin = next(at, len(data))
            return data[begin:begin + bytes_per_second // 20]
        self._begin(piece)

    def begin_by_clock(self, make, bytes_per_second, ppm, seconds):
        """What a sound card captures: `make(begin, end)` are its bytes, all of them in time."""
        began = time.monotonic()
        sent = 0

        def piece():
            nonlocal sent
            self.is_stopped.wait(0.05)  # what is captured meanwhile
            due = (time.monotonic() - began) * bytes_per_second * (1 + ppm / 1e6)
            begin, sent = sent, min(round(due), bytes_per_second * seconds)
            return make(begin, sent)
        self._begin(piece)

    def _begin(self, read):
        def run():
            try:
                while self.goes_on.wait() and not self.is_stopped.is_set():
                    piece = read()
                    if not piece:
                        break
                    self.send(piece)
            except OSError:
                pass
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def hang_up(self):
        self.is_stopped.set()
        self.goes_on.set()
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def stop(self):
        self.hang_up()
        if self.encoder:
            self.encoder.kill()
            self.encoder.wait()
            self.encoder.stdout.close()
        if self.thread:
            self.thread.join(10)
        self.socket.close()
        self.other.close()


class Transmitter:
    """The other end of the PCM socket: reads all that comes, unless told to pause."""

    def __init__(self, case):
        self.path = case.path("pcm.sock")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.listener.settimeout(30)
        self.connection = None
        self.pcm = bytearray()
        self.titles = []  # (sample, text)
        self.goes_on = threading.Event()  # not set: it is paused
        self.goes_on.set()
        self.is_in_time = False  # reads no faster than it would be heard
        self.is_ended = threading.Event()
        case.addCleanup(self.close)

    def accept(self):
        self.connection = self.listener.accept()[0]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        began = time.monotonic()
        try:
            while self.goes_on.wait():
                if self.is_in_time:
                    ahead = len(self.pcm) / (sound.RATE * SAMPLE_BYTES) - (time.monotonic() - began)
                    self.is_ended.wait(max(ahead, 0))
                data, fds, _, _ = socket.recv_fds(self.connection, 4096, 4)
                for fd in fds:
                    text = os.pread(fd, 5000, 0)
                    os.close(fd)
                    if not text or text[0] < 0x80:
                        self.titles.append((len(self.pcm) // SAMPLE_BYTES, text.decode()))
                if not data:
                    break
                self.pcm += data
        except OSError:
            pass
        self.is_ended.set()

    def samples(self):
        whole = len(self.pcm) // SAMPLE_BYTES * SAMPLE_BYTES
        return numpy.frombuffer(bytes(self.pcm[:whole]), "<i2").reshape(-1, 2)

    def wait_samples(self, count, seconds=30.0):
        wait_until(lambda: len(self.pcm) >= count * SAMPLE_BYTES or self.is_ended.is_set(),
                   f"{count} samples have come", seconds)
        assert len(self.pcm) >= count * SAMPLE_BYTES, f"only {len(self.pcm)} bytes came"

    def close(self):
        self.is_ended.set()
        self.goes_on.set()
        if self.connection:
            try:
                self.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self.thread.join(10)
            self.connection.close()
        self.listener.close()


class TestSourceClient(TowerTestCase):
    def source_client(self, socket_path, content_type, *words, name="live", begun=None):
        """Start it with a new sender; returns both."""
        sender = Sender(self)
        command = [TOWER, "source-client", "--name", name, "--socket", socket_path,
                   "--content-type", content_type, *words]
        if begun is None:
            program = self.start(*command, name="source-client", stdin=sender.other)
        else:
            # Descriptor 3, whichever it was here.
            file = os.memfd_create("begun")
            os.write(file, begun)
            program = self.start("/bin/sh", "-c", f'exec "$@" 3</proc/{os.getpid()}/fd/{file}',
                                 "sh", *command, name="source-client", stdin=sender.other)
            self.addCleanup(os.close, file)
        sender.other.close()
        return program, sender

    def to_transmitter(self, content_type, *words, **options):
        transmitter = Transmitter(self)
        program, sender = self.source_client(transmitter.path, content_type, *words, **options)
        transmitter.accept()
        return transmitter, program, sender

    def decoder_of(self, program):
        """The pid of its ffmpeg."""
        def found():
            for pid in children_of(program.pid):
                try:
                    with open(f"/proc/{pid}/comm", encoding="ascii") as comm:
                        if comm.read().strip() == "ffmpeg" and process_exists(pid):
                            return pid
                except (FileNotFoundError, ProcessLookupError):
                    pass
            return None
        return wait_until(found, "it has a decoder")

    def assert_ended(self, program, code, why, seconds=30.0):
        self.assertEqual(program.wait(seconds), code, program.stderr())
        lines = [line for line in program.stderr().splitlines() if "ended after" in line]
        self.assertEqual(len(lines), 1, program.stderr())
        self.assertIn(why, lines[0])
        return lines[0]

    # ---- on air ----

    def go_on_air(self, kind):
        words, content_type = FORMATS[kind]
        server = self.serve("--grace", "10")
        program, sender = self.source_client(server.socket_path, content_type)
        # What an encoder needs to begin is none of our time.
        encoded = []
        sender.begin_encoding(words)
        wait_until(lambda: sender.sent > 0, "the client sends", interval=0.002)
        began = time.monotonic()
        wait_until(lambda: server.status()["frames_by_origin"]["live"] > 0, "it is on air")
        seconds = time.monotonic() - began
        print(f"  {kind}: on air {seconds:.2f} s after its first byte")
        # How long it takes on a machine with nothing else to do is another test's.
        self.assertLess(seconds, 10.0)
        before = server.status()
        listener = Listener(server.port)
        server.wait_status(lambda s: s["frames_by_origin"]["live"] >
                           before["frames_by_origin"]["live"] + 150, "it stays")
        heard = sound.mono(sound.decode(listener.hang_up(), self.folder))[-2 * sound.RATE:]
        self.assertAlmostEqual(sound.frequency_of(heard), 997, delta=2)
        self.assertGreater(sound.strength_of(heard, 997), 1000)
        after = server.status()
        print(f"  silence meanwhile: "
              f"{after['frames_by_origin']['grace'] - before['frames_by_origin']['grace']} frames")
        # An encoder that the machine has no time for leaves gaps; half of the time is more than that.
        self.assertLess(after["frames_by_origin"]["grace"] - before["frames_by_origin"]["grace"],
                        150)
        sender.hang_up()
        self.assert_ended(program, 0, "the client hung up")
        self.stop(server)
        return encoded

    @takes(20)
    def test_less_than_a_second_of_it_goes_on_air(self):
        """Though no more comes: nothing waits for a second of the stream."""
        server = self.serve("--grace", "20")
        for kind, (words, content_type) in FORMATS.items():
            before = server.status()["frames_by_origin"]["live"]
            program, sender = self.source_client(server.socket_path, content_type)
            sender.send(encode(words, 997, 0.8))
            server.wait_status(lambda s: s["frames_by_origin"]["live"] > before + 10,
                               f"{kind} is on air")
            sender.hang_up()
            self.assert_ended(program, 0, "the client hung up")
            server.wait_status(lambda s: not s["producers"]["list"], f"{kind} is gone")
        self.stop(server)

    @takes(8)
    def test_mp3_goes_on_air(self):
        self.go_on_air("mp3")

    @takes(8)
    def test_mp3_of_another_rate_goes_on_air(self):
        self.go_on_air("mp3 of 22050 Hz, mono")

    @takes(8)
    def test_aac_goes_on_air(self):
        self.go_on_air("aac")

    @takes(8)
    def test_vorbis_goes_on_air(self):
        self.go_on_air("vorbis")

    @takes(8)
    def test_opus_goes_on_air(self):
        self.go_on_air("opus")

    @takes(8)
    def test_flac_in_ogg_goes_on_air(self):
        self.go_on_air("ogg flac")

    @takes(8)
    def test_flac_goes_on_air(self):
        self.go_on_air("flac")

    @takes(8)
    def test_webm_goes_on_air(self):
        self.go_on_air("webm")

    @takes(8)
    def test_wav_goes_on_air(self):
        self.go_on_air("wav")

    @takes(8)
    def test_l16_goes_on_air(self):
        self.go_on_air("L16")

    # ---- what comes out ----

    def song(self):
        return sound.stereo(sound.tone([500, 700], 2.5, 0.5))

    @takes(3)
    def test_wav_passes_bit_for_bit_to_its_last_sample(self):
        samples = self.song()
        path = sound.write_wav(self.path("a.wav"), samples)
        transmitter, program, sender = self.to_transmitter("audio/wav")
        with open(path, "rb") as file:
            sender.send(file.read())
        sender.hang_up()
        self.assert_ended(program, 0, "the client hung up")
        self.assertTrue(transmitter.is_ended.wait(10))
        heard = transmitter.samples()
        self.assertEqual(len(heard) % 1152, 0)
        self.assertTrue((heard[:len(samples)] == samples).all())
        self.assertFalse(heard[len(samples):].any(), "the last frame is padded")

    @takes(3)
    def test_chunks_and_what_was_read_before(self):
        samples = self.song()
        body = b"".join(b"%x;ext\r\n%s\r\n" % (len(piece), piece) for piece in
                        [samples.astype(">i2").tobytes()[at:at + 12345]
                         for at in range(0, samples.nbytes, 12345)]) + b"0\r\n\r\n"
        transmitter, program, sender = self.to_transmitter(
            "audio/L16;rate=48000;channels=2", "--chunked", begun=body[:70001])
        sender.send(body[70001:])
        # It is at its end by itself: the client has not hung up.
        self.assert_ended(program, 0, "the client sent its end")
        self.assertTrue(transmitter.is_ended.wait(10))
        self.assertTrue((transmitter.samples()[:len(samples)] == samples).all())

    @takes(3)
    def test_a_length_is_its_end(self):
        samples = self.song()
        body = samples.astype(">i2").tobytes()
        transmitter, program, sender = self.to_transmitter(
            "audio/L16;rate=48000;channels=2", "--length", str(len(body)), begun=body[:70001])
        sender.send(body[70001:] + b"what is behind it is not heard")
        self.assert_ended(program, 0, "the client sent its end")
        self.assertTrue(transmitter.is_ended.wait(10))
        heard = transmitter.samples()
        self.assertTrue((heard[:len(samples)] == samples).all())
        self.assertFalse(heard[len(samples):].any())

    @takes(10)
    def test_chained_ogg_goes_on_without_a_gap(self):
        """A song is a link of the chain, and each has another rate, or another codec."""
        vorbis, opus, flac = (["-c:a", codec, "-f", "ogg"] for codec in
                              ("libvorbis", "libopus", "flac"))
        links = [(vorbis, 440, 48000, "2"), (vorbis, 660, 44100, "1"), (opus, 880, 48000, "1"),
                 (opus, 550, 48000, "2"), (flac, 770, 44100, "2"), (vorbis, 1100, 22050, "1")]
        transmitter, program, sender = self.to_transmitter("application/ogg")
        for number, (words, frequency, rate, channels) in enumerate(links):
            sender.send(encode(words, frequency, 2, "-ar", str(rate), "-ac", channels, "-metadata",
                               f"title=Song {number}", "-metadata", "artist=Tower"))
        sender.hang_up()
        self.assert_ended(program, 0, "the client hung up")
        self.assertTrue(transmitter.is_ended.wait(10))
        heard = sound.mono(transmitter.samples())
        self.assertAlmostEqual(len(heard) / sound.RATE, 2 * len(links), delta=0.1)
        for number, (_, frequency, _, _) in enumerate(links):
            part = heard[round((2 * number + 0.5) * sound.RATE):
                         round((2 * number + 1.5) * sound.RATE)]
            self.assertAlmostEqual(sound.frequency_of(part), frequency, delta=2, msg=number)
        self.assertEqual(sound.silences(heard[:11 * sound.RATE], 0.03), [])
        self.assertEqual([text for _, text in transmitter.titles],
                         [f"Tower - Song {number}" for number in range(len(links))])
        for number, (sample, _) in enumerate(transmitter.titles):
            # On a machine with other work it may come early, but not as early as the song before.
            self.assertGreater(sample / sound.RATE, 2 * number - 1.9)
            self.assertLess(sample / sound.RATE, 2 * number + 0.15)
        self.assertNotIn("started anew", program.stderr())
        self.assertNotIn("non monotonically", program.stderr())

    @takes(8)
    def test_titles_from_the_transmitter_go_with_the_sound(self):
        transmitter, program, sender = self.to_transmitter("audio/mpeg")
        sender.begin_encoding(FORMATS["mp3"][0])
        transmitter.wait_samples(1)
        self.assertEqual(transmitter.titles, [])
        text = "Björk – Jóga".encode()
        for part in (struct.pack("<H", len(text))[:1], struct.pack("<H", len(text))[1:] + text[:3],
                     text[3:]):
            transmitter.connection.sendall(part)
        wait_until(lambda: transmitter.titles, "the title comes")
        self.assertEqual(transmitter.titles[0][1], text.decode())
        # None, one that is no text, and the next.
        bad = b"\xff\xfe"
        transmitter.connection.sendall(struct.pack("<H", len(bad)) + bad)
        before = len(transmitter.pcm)
        wait_until(lambda: len(transmitter.pcm) > before + 96000, "the sound goes on")
        transmitter.connection.sendall(struct.pack("<H", 0))
        wait_until(lambda: len(transmitter.titles) == 2, "the next comes")
        self.assertEqual(transmitter.titles[1][1], "")
        sender.hang_up()
        self.assertIn("2 titles", self.assert_ended(program, 0, "the client hung up"))

    # ---- its clock ----

    @takes(50)
    def test_a_client_is_kept_to_our_clock(self):
        """One with a card of its own, which is 400 ppm fast."""
        server = self.serve("--grace", "10")
        program, sender = self.source_client(server.socket_path, "audio/L16;rate=48000;channels=2")
        tone = sound.stereo(sound.tone([440], 1)).astype(">i2").tobytes()

        def captured(begin, end):
            first = begin % len(tone)
            return (tone * 3)[first:first + end - begin]
        sender.begin_by_clock(captured, len(tone), 400, 100)

        def clock(status):
            return (status["producers"]["list"] or [{}])[0].get("clock") or {}
        status = server.wait_status(lambda s: abs((clock(s).get("ppm") or 0) - 400) < 50,
                                    "its clock is known", 90)
        self.assertFalse(clock(status)["out_of_range"])
        status = server.wait_status(lambda s: (clock(s).get("correction_ppm") or 0) < -200,
                                    "it is corrected", 60)
        self.assertEqual(clock(status)["overruns"], 0)
        self.assertNotIn("takes nothing", program.stderr())
        sender.hang_up()
        self.assert_ended(program, 0, "the client hung up")
        said = re.search(r"live: its clock was \+(\d+\.\d) ppm off \(\+-\d+\.\d\), "
                         r"corrected by -\d+\.\d", program.stderr())
        self.assertTrue(said, program.stderr())
        self.assertAlmostEqual(float(said.group(1)), 400, delta=50)

    @takes(45)
    def test_a_file_sent_at_once_is_no_clock(self):
        """It is taken as fast as it is heard, which is in time, and passes bit for bit."""
        transmitter, program, sender = self.to_transmitter("audio/L16;rate=48000;channels=2")
        transmitter.is_in_time = True
        samples = numpy.arange(40 * sound.RATE * 2, dtype="<u4").astype("<i2").reshape(-1, 2)
        sender.begin_by_clock(lambda begin, end: samples.astype(">i2").tobytes()[begin:end],
                              samples.nbytes, 0, 1)
        wait_until(lambda: sender.sent == samples.nbytes, "all is sent", 90)
        sender.hang_up()
        self.assert_ended(program, 0, "the client hung up", 60)
        self.assertTrue(transmitter.is_ended.wait(30))
        self.assertGreaterEqual(len(transmitter.samples()), len(samples))
        self.assertTrue((transmitter.samples()[:len(samples)] == samples).all())
        self.assertNotIn("its clock", program.stderr())

    # ---- what goes wrong ----

    @takes(40)
    def test_a_decoder_that_is_killed_is_started_anew(self):
        for kind in ("mp3", "vorbis", "ogg flac", "flac", "webm"):
            transmitter, program, sender = self.to_transmitter(FORMATS[kind][1])
            sender.begin_encoding(FORMATS[kind][0])
            transmitter.wait_samples(sound.RATE)
            decoder = self.decoder_of(program)
            os.kill(decoder, signal.SIGKILL)
            killed = time.monotonic()
            wait_until(lambda: not process_exists(decoder), "it is dead")
            before = len(transmitter.pcm)
            wait_until(lambda: len(transmitter.pcm) > before + 48000, "the sound goes on")
            seconds = time.monotonic() - killed
            print(f"  {kind}: sound again {seconds:.2f} s after its decoder was killed")
            self.assertLess(seconds, 5.0)
            transmitter.wait_samples(before // SAMPLE_BYTES + 2 * sound.RATE)
            heard = sound.mono(transmitter.samples())[-sound.RATE:]
            self.assertAlmostEqual(sound.frequency_of(heard), 997, delta=3, msg=kind)
            sender.hang_up()
            line = self.assert_ended(program, 0, "the client hung up")
            self.assertIn("1 restarts", line)
            self.assertIn("was killed by signal 9; started anew", program.stderr())
            transmitter.close()
            os.unlink(transmitter.path)

    @takes(10)
    def test_a_decoder_that_hangs_is_started_anew(self):
        transmitter, program, sender = self.to_transmitter("audio/mpeg")
        sender.begin_encoding(FORMATS["mp3"][0])
        transmitter.wait_samples(sound.RATE)
        decoder = self.decoder_of(program)
        os.kill(decoder, signal.SIGSTOP)
        wait_until(lambda: not process_exists(decoder), "it was killed")
        before = len(transmitter.pcm)
        wait_until(lambda: len(transmitter.pcm) > before + 96000, "the sound goes on")
        sender.hang_up()
        self.assert_ended(program, 0, "the client hung up")
        self.assertIn("gives no sound; killed; started anew", program.stderr())

    @takes(10)
    def test_flac_is_heard_to_its_last_sample(self):
        """Also where a read holds many frames: of silence hundreds."""
        for source in ("anullsrc=sample_rate=48000", "sine=frequency=997:sample_rate=44100"):
            stream = subprocess.run(
                ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", source, "-t", "3", "-c:a",
                 "flac", "-f", "flac", "pipe:1"], check=True, stdout=subprocess.PIPE,
                timeout=60).stdout
            transmitter, program, sender = self.to_transmitter("audio/flac")
            sender.send(stream)
            sender.hang_up()
            self.assert_ended(program, 0, "the client hung up")
            self.assertTrue(transmitter.is_ended.wait(10))
            self.assertEqual(len(transmitter.pcm) // SAMPLE_BYTES, 3 * sound.RATE)
            transmitter.close()
            os.unlink(transmitter.path)

    def assert_refused(self, content_type, data, why, *words, by_chance_bytes=0):
        transmitter, program, sender = self.to_transmitter(content_type, *words)
        sender.begin_pieces(data, 32000)
        line = self.assert_ended(program, 1, why, 60)
        self.assertIn(" 0 s of sound", line)
        self.assertTrue(transmitter.is_ended.wait(10))
        self.assertLessEqual(len(transmitter.pcm), by_chance_bytes)
        transmitter.close()
        os.unlink(transmitter.path)

    @takes(25)
    def test_garbage_is_closed_with_a_line(self):
        garbage = numpy.random.default_rng(1).integers(0, 256, 2000000, "u1").tobytes()
        # What looks like a frame in it is decoded: one of the longest, at 8000 Hz, is 0.144 s.
        self.assert_refused("audio/mpeg", garbage, "audio/mpeg: no sound could be made of it",
                            by_chance_bytes=sound.RATE * SAMPLE_BYTES // 5)

    @takes(12)
    def test_garbage_of_other_kinds_too(self):
        garbage = numpy.random.default_rng(2).integers(0, 256, 2000000, "u1").tobytes()
        self.assert_refused("audio/ogg", garbage, "audio/ogg: that is not what it sends")
        self.assert_refused("audio/webm", garbage, "audio/webm: no sound could be made of it")
        self.assert_refused("audio/wav", garbage, "audio/wav: that is not what it sends")
        self.assert_refused("audio/mpeg", garbage, "not the chunks", "--chunked")

    @takes(3)
    def test_without_ffmpeg_it_says_so(self):
        self.assert_refused("audio/mpeg", b"x", "/nonexistent/ffmpeg cannot be started: No such",
                            "--ffmpeg", "/nonexistent/ffmpeg")

    @takes(16)
    def test_a_body_that_stops_is_an_end(self):
        transmitter, program, sender = self.to_transmitter("audio/mpeg")
        sender.begin_encoding(FORMATS["mp3"][0])
        transmitter.wait_samples(sound.RATE)
        sender.goes_on.clear()
        began = time.monotonic()
        self.assert_ended(program, 0, "nothing came from the client for 10 s")
        self.assertGreater(time.monotonic() - began, 9)
        self.assertNotIn("started anew", program.stderr())

    @takes(10)
    def test_a_transmitter_that_takes_nothing_makes_no_delay(self):
        transmitter, program, sender = self.to_transmitter("audio/L16;rate=48000;channels=2")
        count = 20 * sound.RATE
        numbered = numpy.arange(count, dtype=">u4").tobytes()
        sender.begin_pieces(numbered, sound.RATE * SAMPLE_BYTES)
        transmitter.wait_samples(sound.RATE // 2)
        transmitter.goes_on.clear()
        wait_until(lambda: "takes nothing" in program.stderr(), "that is said")
        sent = sender.sent
        wait_until(lambda: sender.sent >= sent + 2 * sound.RATE * SAMPLE_BYTES, "two seconds more")
        transmitter.goes_on.set()
        wait_until(lambda: "takes sound again" in program.stderr(), "that is said")
        wait_until(lambda: len(transmitter.pcm) > sound.RATE * 4 * SAMPLE_BYTES, "it goes on")
        heard = transmitter.samples().astype("<i2").view("<u2").astype(numpy.uint32)
        # Big-endian words: the number's upper half comes first.
        numbers = heard[:, 0] << 16 | heard[:, 1]
        steps = numpy.flatnonzero(numpy.diff(numbers) != 1)
        self.assertGreaterEqual(len(steps), 1, "something was left out")
        self.assertTrue((numpy.diff(numbers) >= 1).all(), "in order, and nothing twice")
        self.assertEqual(program.stderr().count("takes nothing"), 1)
        sender.hang_up()
        line = self.assert_ended(program, 0, "the client hung up")
        self.assertGreater(int(re.search(r"(\d+) ms dropped", line).group(1)), 500)

    @takes(12)
    def test_it_outlives_the_worker_and_ends_with_the_transmitter(self):
        server = self.serve("--grace", "10")
        program, sender = self.source_client(server.socket_path, "audio/mpeg")
        sender.begin_encoding(FORMATS["mp3"][0])
        server.wait_origin("live")
        worker = server.worker
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: server.worker not in (None, worker), "there is another worker")
        before = server.status()["frames_by_origin"]["live"]
        server.wait_status(lambda s: s["frames_by_origin"]["live"] > before + 80, "it goes on")
        self.assertTrue(program.runs())
        server.kill(signal.SIGKILL)
        self.assert_ended(program, 1, "the transmitter went away", 10)

    # ---- among others ----

    @takes(12)
    def test_it_takes_the_air_from_a_playlist_and_gives_it_back(self):
        server = self.serve("--grace", "10", "--settle", "0")
        music = sound.write_wav(self.path("music.wav"), sound.stereo(sound.tone([400], 60)))
        self.feed(server, music, "--name", "playlist")
        server.wait_origin("live")
        program, sender = self.source_client(server.socket_path, "audio/mpeg")
        sender.begin_encoding(FORMATS["mp3"][0])

        def on_air(status):
            return [entry["name"] for entry in status["producers"]["list"]
                    if entry["state"] == "on air"]
        status = server.wait_status(lambda s: on_air(s) == ["live"], "it is on air", 5)
        entry = [entry for entry in status["producers"]["list"] if entry["name"] == "live"][0]
        self.assertTrue(entry["live"])
        self.assertTrue(entry["source"])
        # One of a lower name waits, and what it sends is not kept for later.
        other, other_sender = self.source_client(server.socket_path, "audio/ogg", name="guest")
        other_sender.begin_encoding(FORMATS["opus"][0])
        server.wait_status(lambda s: any(entry["name"] == "guest" and
                                         entry["thrown_bytes"] > 96000 * 4
                                         for entry in s["producers"]["list"]), "it is thrown away")
        self.assertEqual(on_air(server.status()), ["live"])
        self.assertNotIn("takes nothing", other.stderr())
        sender.hang_up()
        self.assert_ended(program, 0, "the client hung up")
        back = server.wait_status(lambda s: on_air(s) == ["playlist"], "the playlist is back")
        # Its client may have been late, on a machine with other work; the playlist waits here.
        live = back["frames_by_origin"]["live"]
        before = server.wait_status(lambda s: s["frames_by_origin"]["live"] > live + 20, "it is heard")
        after = server.wait_status(lambda s: s["frames_by_origin"]["live"] > live + 60, "it goes on")
        self.assertEqual(after["frames_by_origin"]["grace"], before["frames_by_origin"]["grace"])
        other_sender.hang_up()
        self.assert_ended(other, 0, "the client hung up")

    # ---- usage ----

    @takes(2)
    def test_usage(self):
        done = self.tower("source-client", "--help")
        self.assertEqual(done.code, 0)
        self.assertIn("--content-type TYPE", done.stdout())
        self.assertNotIn("source-client", self.tower("--help").stdout())
        good = ["--name", "live", "--socket", "x", "--content-type", "audio/mpeg"]
        for words in ([], good[:4], [*good, "more"], [*good, "--name", "Live"],
                      [*good, "--name", "x" * 33], [*good, "--content-type", "text/html"],
                      [*good, "--password", "x"], [*good, "--length", "-1"]):
            done = self.tower("source-client", *words)
            self.assertEqual(done.code, 2, words)
            self.assertIn("tower source-client: ", done.stderr())
        done = self.tower("source-client", *good)
        self.assertEqual(done.code, 1)
        self.assertIn("No such file", done.stderr())
