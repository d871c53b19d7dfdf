"""Titles that `tower feed` sends: which, and with which sample, as they arrive at the socket."""
import os
import signal
import socket
import subprocess

from harness import TOWER, TowerTestCase, open_descriptors, takes, wait_until
import sound

TITLE_BYTES_MAX = 4065
SAMPLE_BYTES = 4


class Receiver:
    """The transmitter's end of the socket. Reads sample by sample, so that a title's place is known
    to the sample: it comes with the read that its byte is in."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.listener.settimeout(60)
        self.connection = None

    def accept(self):
        self.connection = self.listener.accept()[0]
        self.connection.settimeout(60)
        self.n_bytes = 0
        self.titles = []  # (sample, text)

    def read(self, n_samples=None):
        """So many samples, or all up to the end."""
        until = None if n_samples is None else self.n_bytes + n_samples * SAMPLE_BYTES
        while until is None or self.n_bytes < until:
            data, fds, _, _ = socket.recv_fds(
                self.connection, SAMPLE_BYTES - self.n_bytes % SAMPLE_BYTES, 4)
            for fd in fds:
                text = os.pread(fd, TITLE_BYTES_MAX + 1, 0)
                os.close(fd)
                if text.startswith(b"\xfe"):
                    self.identity = text  # with the first byte, and it is no title
                else:
                    self.titles.append((self.n_bytes // SAMPLE_BYTES, text.decode()))
            if not data:
                return
            self.n_bytes += len(data)

    def hang_up(self):
        self.connection.close()

    def close(self):
        self.listener.close()


class TestFeedTitles(TowerTestCase):
    def setUp(self):
        super().setUp()
        self.socket_path = self.path("pcm.sock")
        self.receiver = Receiver(self.socket_path)
        self.addCleanup(self.receiver.close)

    def titles_of(self, *words, stdin=subprocess.DEVNULL, code=0):
        """What comes when `tower feed words...` is run to its end."""
        feeder = self.start(TOWER, "feed", *words, "--socket", self.socket_path, name="feed",
                            stdin=stdin)
        self.receiver.accept()
        self.receiver.read()
        self.receiver.hang_up()
        self.assertEqual(feeder.wait(), code, feeder.stderr())
        return self.receiver.titles

    def wav(self, name="plain.wav", seconds=0.1, rate=48000):
        samples = sound.stereo(sound.tone([500], seconds))[:round(seconds * rate)]
        return sound.write_wav(self.path(name), samples, rate)

    @takes(12)
    def test_tags_of_files_of_every_kind(self):
        source = self.wav()
        # MP3, FLAC, Ogg and Opus by libsndfile; the others are ffmpeg's.
        for kind in ("mp3", "flac", "ogg", "opus", "m4a", "wma", "mka"):
            path = sound.convert(source, self.path(f"a file.{kind}"), "-metadata",
                                 "artist=Björk; = #1", "-metadata", "title=Jó\\ga – “live”")
            self.assertEqual(self.titles_of(path), [(0, "Björk; = #1 - Jó\\ga – “live”")], kind)
        for kind in ("flac", "m4a"):
            path = sound.convert(source, self.path(f"b.{kind}"), "-metadata", "title=The news")
            self.assertEqual(self.titles_of(path), [(0, "The news")], kind)
            path = sound.convert(source, self.path(f"The name, v1.2.{kind}"))
            self.assertEqual(self.titles_of(path), [(0, "The name, v1.2")], kind)

    @takes(3)
    def test_mp3_without_a_length(self):
        """It is ffmpeg that decodes it, and libsndfile that has read its tags."""
        path = sound.convert(self.wav(), self.path("a.mp3"), "-write_xing", "0", "-metadata",
                             "artist=a", "-metadata", "title=b")
        self.assertEqual(self.titles_of(path), [(0, "a - b")])

    @takes(3)
    def test_names_and_tags_of_old(self):
        """Neither the tags nor the name of the file are UTF-8, which they are on the way out."""
        with open(self.wav(), "rb") as file:
            data = file.read()
        info = b"INFOIART\x06\0\0\0Bj\xf6rk\0INAM\x06\0\0\0J\xf3ga \0"
        data += b"LIST" + len(info).to_bytes(4, "little") + info
        data = data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:]
        with open(self.path("old.wav"), "wb") as file:
            file.write(data)
        self.assertEqual(self.titles_of(self.path("old.wav")), [(0, "Björk - Jóga")])
        name = os.fsencode(self.path("")) + b"J\xf3ga.wav"
        os.rename(self.wav(), name)
        self.assertEqual(self.titles_of("file:" + os.fsdecode(name)), [(0, "Jóga")])
        os.rename(name, self.path(".wav"))
        self.assertEqual(self.titles_of(self.path(".wav")), [(0, ".wav")])

    @takes(4)
    def test_title_by_hand_and_none(self):
        path = sound.convert(self.wav(), self.path("a.flac"), "-metadata", "title=tag")
        self.assertEqual(self.titles_of(path, "--title", "Sólo – “here”"), [(0, "Sólo – “here”")])
        self.assertEqual(self.titles_of(path, "--title", ""), [(0, "")])
        self.assertEqual(self.titles_of(path, "--no-title"), [])
        long = "ü" * 3000
        self.assertEqual(self.titles_of(path, "--title", long), [(0, "ü" * 2032)])
        with open(self.path("in.raw"), "wb") as file:
            file.write(bytes(40000))
        for words, titles in ((["--title", "News"], [(0, "News")]), ([], [])):
            with open(self.path("in.raw"), "rb") as file:
                self.assertEqual(self.titles_of("-", *words, stdin=file), titles)
        for words, titles in ((["--title", "A test"], [(0, "A test")]), ([], [])):
            feeder = self.start(TOWER, "feed", "mock:tone", *words, "--socket", self.socket_path,
                                name="feed")
            self.receiver.accept()
            self.receiver.read(5000)
            feeder.kill(signal.SIGINT)
            self.receiver.read()
            self.assertEqual(feeder.wait(), 0)
            self.assertEqual(self.receiver.titles, titles)

    def test_wrong_use(self):
        for words in (["--title", "a", "--no-title"], ["--title"], [b"--title", b"Bj\xf6rk"],
                      ["--no-title=yes"]):
            program = self.tower("feed", "mock", *map(os.fsdecode, words))
            self.assertEqual(program.code, 2, (words, program.stderr()))
            self.assertIn("title", program.stderr())

    @takes(6)
    def test_every_round_of_a_loop_begins_with_it(self):
        """To the sample, also where the converter is behind the file."""
        for rate, length in ((48000, 20000), (44100, 10001), (8000, 50)):
            path = self.wav("loop.wav", length / rate, rate)
            feeder = self.start(TOWER, "feed", path, "--loop", "--title", "again", "--socket",
                                self.socket_path, name="feed")
            self.receiver.accept()
            self.receiver.read(50000)
            self.receiver.hang_up()
            feeder.kill(signal.SIGTERM)
            feeder.wait()
            places = [place for place, text in self.receiver.titles if text == "again"]
            self.assertEqual(len(places), len(self.receiver.titles))
            rounds = [(2 * n * length * 48000 + rate) // (2 * rate) for n in range(200)]
            if length > 1000:
                self.assertEqual(places, [place for place in rounds if place < 50000])
            else:
                # Rounds shorter than what the converter holds: not each of them, but on and on.
                self.assertEqual(places[0], 0)
                self.assertLess(set(places), set(rounds))
                self.assertGreater(len(places), 3)

    @takes(4)
    def test_a_new_connection_begins_with_it(self):
        path = sound.convert(self.wav(seconds=30), self.path("a.flac"), "-metadata", "title=tag")
        self.start(TOWER, "feed", path, "--socket", self.socket_path, name="feed")
        for _ in range(3):
            self.receiver.accept()
            self.receiver.read(20000)
            self.assertEqual(self.receiver.titles, [(0, "tag")])
            self.receiver.hang_up()


class TestTitlesIntoTheTransmitter(TowerTestCase):
    @takes(6)
    def test_a_producer_that_hangs_has_its_title_back_when_it_goes_on(self):
        server = self.serve("--grace", "0.5")

        def has_title(text):
            return lambda status: (status["title"] or {"text": ""})["text"] == text
        feeder = self.start(TOWER, "feed", "mock:tone", "--title", "Song", "--socket",
                            server.socket_path, name="feed")
        server.wait_status(has_title("Song"), "the title is on air")
        feeder.kill(signal.SIGSTOP)
        server.wait_origin("tone")
        server.wait_status(has_title(""), "the title is taken back")
        feeder.kill(signal.SIGCONT)
        server.wait_status(has_title("Song"), "the title is on air again")
        feeder.kill()
        server.wait_status(has_title(""), "the title has gone with its programme")

    @takes(6)
    def test_they_are_no_burden(self):
        """A real transmitter takes them, and what is none, and plays on; no descriptor stays."""
        server = self.serve("--grace", "0")
        before = open_descriptors(server.pid)
        producer = self.produce(server)
        title = os.memfd_create("title")
        os.write(title, "Björk - Jóga".encode())
        ends = os.pipe()
        for fd in (title, *ends, title):
            socket.send_fds(producer.socket, [bytes(sound.FRAME_BYTES)], [fd, *ends])
        for fd in (title, *ends):
            os.close(fd)
        producer.send(bytes(sound.FRAME_BYTES * 4))
        server.wait_status(lambda s: s["frames_by_origin"]["live"] >= 8, "all of it was on air")
        producer.close()
        server.wait_status(lambda s: s["producers"]["connected"] == 0, "it is gone")
        wait_until(lambda: open_descriptors(server.pid) <= before, "nothing of it stays open")
        self.assertEqual(server.stderr().count("no title"), 1)
        self.stop(server)
