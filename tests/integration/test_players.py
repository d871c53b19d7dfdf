"""Real players, curl and an Icecast relay, on a transmitter that is fed."""
import http.client
import json
import os
import shutil
import socket

import numpy

from harness import TowerTestCase, takes, wait_until
from listening import Listener, mp3_frames
import sound

LEFT_HZ, RIGHT_HZ = 440, 660
PEAK = 0.4
PASSWORD = "sesame"
# What iOS sends for an audio element: a probe of two bytes, then the stream.
IOS_REQUEST = ("GET /stream HTTP/1.1\r\nHost: here\r\nRange: bytes={range}\r\n"
               "X-Playback-Session-Id: 5BF0E3B4-3F0A-4C5B-9C33-2E1B7D2F8A10\r\n"
               "Icy-MetaData: 1\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
               "User-Agent: AppleCoreMedia/1.0.0.21E219 (iPhone; U; CPU OS 17_4 like Mac OS X; "
               "en_us)\r\nConnection: keep-alive\r\n\r\n")
# Icecast will not run as root: started by root it must become somebody else.
ICECAST_XML = """<icecast>
  <limits><clients>100</clients><sources>2</sources></limits>
  <authentication><source-password>{password}</source-password>
    <admin-user>admin</admin-user><admin-password>{password}</admin-password></authentication>
  <hostname>localhost</hostname><location>here</location><admin>nobody@localhost</admin>
  <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
  <relay><server>127.0.0.1</server><port>{tower_port}</port><mount>/stream</mount>
    <local-mount>/relayed.mp3</local-mount><on-demand>0</on-demand>
    <relay-shoutcast-metadata>1</relay-shoutcast-metadata></relay>
  <fileserve>1</fileserve>
  <paths><logdir>{folder}</logdir><webroot>/usr/share/icecast2/web</webroot>
    <adminroot>/usr/share/icecast2/admin</adminroot></paths>
  <logging><accesslog>-</accesslog><errorlog>error.log</errorlog><loglevel>1</loglevel></logging>
  <security><chroot>0</chroot>{owner}</security>
</icecast>
"""
CHANGE_OWNER = "<changeowner><user>nobody</user><group>nogroup</group></changeowner>"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def split_titles(body, interval):
    """The audio, and what the blocks between it say, those that say nothing left out."""
    audio, titles, at = bytearray(), [], 0
    while at < len(body):
        audio += body[at:at + interval]
        at += interval
        if at >= len(body):
            break
        size = 16 * body[at]
        block = bytes(body[at + 1:at + 1 + size])
        if len(block) == size and size > 0:
            titles.append(block.rstrip(b"\0").decode("utf-8"))
        at += 1 + size
    return bytes(audio), titles


class PlayersTestCase(TowerTestCase):
    """A transmitter with a station's name and a password, fed with a chord."""

    def setUp(self):
        super().setUp()
        with open(self.path("password"), "w", encoding="ascii") as file:
            file.write(PASSWORD + "\n")
        os.chmod(self.path("password"), 0o600)
        self.server = self.serve("--host", "::", "--grace", "0", "--tone-frequency", "0",
                                 "--name", "Radio Test", "--genre", "Chords",
                                 "--url", "http://radio.example",
                                 "--password-file", self.path("password"))
        # Whole turns of both: from its end to its beginning there is no seam.
        wave = sound.stereo(sound.tone([LEFT_HZ], 10, PEAK), sound.tone([RIGHT_HZ], 10, PEAK))
        self.feeder = self.feed(self.server, "--loop", "--no-title",
                                sound.write_wav(self.path("chord.wav"), wave))
        # So that the burst, too, holds nothing else.
        self.server.wait_status(lambda s: s["frames_by_origin"]["live"] > 110,
                                "the feeder has been on air for longer than the burst")

    def tearDown(self):
        self.assertTrue(self.feeder.runs(), self.feeder.stderr())
        status = self.server.status()
        self.assertEqual(status["listeners"]["skips"], 0)
        self.assertEqual(status["listeners"]["ended"]["failed"], 0)
        self.stop(self.server)

    def judge(self, samples):
        """It is the programme, without a hole or a jump."""
        # A decoder that joins has nothing to overlap the first frame with.
        samples = samples[2304:]
        for channel, frequency in enumerate((LEFT_HZ, RIGHT_HZ)):
            heard = samples[:, channel].astype(numpy.float64)
            self.assertAlmostEqual(sound.frequency_of(heard), frequency, delta=0.5)
            self.assertAlmostEqual(sound.strength_of(heard, frequency) / 32768, PEAK, delta=0.03)
            window = heard[:len(heard) // 480 * 480].reshape(-1, 480)
            loudest = numpy.abs(window).max(axis=1) / 32768
            self.assertGreater(loudest.min(), 0.85 * PEAK)
        steepest = 2 * numpy.pi * RIGHT_HZ / sound.RATE * PEAK * 32768
        self.assertLess(sound.largest_step(samples), 1.2 * steepest)

    def run_player(self, *command, seconds=90):
        """Run it to its end; returns all that it said."""
        player = self.start(*command)
        code = player.wait(seconds)
        said = player.stdout() + player.stderr()
        self.assertEqual(code, 0, said)
        return said

    def set_title(self, text):
        answer = self.run_player("curl", "-sS", "-o", "answer", "-w", "%{http_code}", "-u",
                                 f"any:{PASSWORD}", "-d", json.dumps({"title": text}),
                                 f"http://127.0.0.1:{self.server.port}/metadata")
        self.assertIn(answer, ("200", "204"))
        return self.server.wait_status(lambda s: s["title"] and s["title"]["text"] == text,
                                       "the title is on air")["title"]["from_frame"]

    @staticmethod
    def icecast_says(port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("GET", "/status-json.xsl")
            return connection.getresponse().read().decode("utf-8")
        finally:
            connection.close()

    def relay(self):
        """An Icecast that relays the stream; returns its port once it does."""
        port, folder = free_port(), self.path("icecast")
        os.mkdir(folder)
        if os.getuid() == 0:
            os.chmod(self.folder, 0o711)
            shutil.chown(folder, "nobody", "nogroup")
        with open(self.path("icecast.xml"), "w", encoding="utf-8") as file:
            file.write(ICECAST_XML.format(password="relayed", port=port, folder=folder,
                                          tower_port=self.server.port,
                                          owner=CHANGE_OWNER if os.getuid() == 0 else ""))
        icecast = self.start("icecast2", "-c", self.path("icecast.xml"))

        def relays():
            self.assertTrue(icecast.runs(), icecast.stdout() + icecast.stderr())
            try:
                return '"source"' in self.icecast_says(port)
            except ConnectionRefusedError:
                return False
        wait_until(relays, "Icecast relays", 60, 0.2)
        return port


class TestPlayers(PlayersTestCase):
    @takes(8)
    def test_ffmpeg(self):
        said = self.run_player("ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "warning", "-i",
                               self.server.url, "-t", "4", "-c:a", "pcm_s16le", "heard.wav")
        self.assertEqual(said, "")
        heard = sound.read_wav(self.path("heard.wav"))
        self.assertEqual(len(heard), 4 * sound.RATE)
        self.judge(heard)

    @takes(8)
    def test_mpg123(self):
        said = self.run_player("mpg123", "--no-control", "-n", "160", "-w", "heard.wav",
                               self.server.url)
        self.assertIsNone(sound.MPG123_FAULT.search(said), said)
        self.assertIn("cbr128 48000", said)
        heard = sound.read_wav(self.path("heard.wav"))
        self.assertEqual(len(heard), 160 * 1152)
        self.judge(heard)

    @takes(8)
    def test_mpv_without_a_display(self):
        said = self.run_player("mpv", "--no-config", "--no-video", "--msg-level=all=warn",
                               "--length=4", "--ao=pcm", "--ao-pcm-file=heard.raw",
                               "--ao-pcm-waveheader=no", "--audio-format=s16", self.server.url)
        self.assertEqual(said, "")
        heard = numpy.fromfile(self.path("heard.raw"), "<i2").reshape(-1, 2)
        self.assertAlmostEqual(len(heard), 4 * sound.RATE, delta=2)
        self.judge(heard)

    @takes(8)
    def test_mpv_in_real_time(self):
        """Played as a person would: without ever having to wait for more."""
        said = self.run_player("mpv", "--no-config", "--no-video", "--length=4", "--ao=null",
                               "--term-status-msg=waits:${paused-for-cache}", self.server.url)
        self.assertIn("waits:no", said)
        self.assertNotIn("waits:yes", said)

    @takes(12)
    def test_curl_of_every_age(self):
        for age in ("--http1.0", "--http1.1"):
            curl = self.start("curl", "-sS", age, "-D", "header", "-o", "heard.mp3", "--max-time",
                              "4", self.server.url)
            self.assertEqual(curl.wait(), 28)
            self.assertRegex(curl.stderr(), r"timed out after \d+ milliseconds with \d+ bytes")
            with open(self.path("header"), encoding="latin-1") as file:
                self.assertRegex(file.readline(), r"^HTTP/1\.[01] 200 ")
            with open(self.path("heard.mp3"), "rb") as file:
                data = file.read()
            _, end = mp3_frames(data)
            self.judge(sound.decode(data[:end], self.folder))

    @takes(5)
    def test_curl_asks_for_the_header_alone(self):
        for age in ("--http1.0", "--http1.1"):
            said = self.run_player("curl", "-sS", age, "-I", self.server.url)
            self.assertRegex(said, r"^HTTP/1\.[01] 200 ")
            self.assertRegex(said, r"(?i)content-type: audio/mpeg")
        self.assertEqual(self.server.status()["listeners"]["accepted"], 0)

    @takes(5)
    def test_curl_keeps_its_connection(self):
        base = f"http://127.0.0.1:{self.server.port}"
        words = []
        for path in ("/livez", "/status", "/readyz"):
            words += ["-o", "answer", base + path]
        said = self.run_player("curl", "-sS", "-w", "%{http_code} %{num_connects}\n", *words)
        self.assertEqual(said.split("\n"), ["200 1", "200 0", "200 0", ""])

    @takes(8)
    def test_a_listener_over_ipv6(self):
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError as error:
            print(f"  this machine has no ::1 ({error}): IPv6 was NOT tested")
            return
        listener = Listener(self.server.port, host="::1")
        listener.wait_bytes(150 * 384)
        heard = listener.hang_up()
        self.assertEqual(listener.status, 200)
        self.judge(sound.decode(heard, self.folder))
        said = self.run_player("ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "warning", "-i",
                               f"http://[::1]:{self.server.port}/stream", "-t", "2", "-y",
                               "heard.wav")
        self.assertEqual(said, "")
        self.judge(sound.read_wav(self.path("heard.wav")))

    @takes(8)
    def test_as_ios_asks(self):
        """Both the probe and the request behind it get the whole stream: to a 206 iOS would go on
        without `Icy-MetaData`, and no range of what has no beginning could be kept to."""
        for asked in ("0-1", "0-", "0-1073741822"):
            listener = Listener(self.server.port, request=IOS_REQUEST.format(range=asked))
            listener.wait_bytes(100 * 384)
            listener.hang_up_unjudged()
            header = listener.header.lower()
            self.assertEqual(listener.status, 200, asked)
            self.assertIn("content-type: audio/mpeg", header)
            self.assertIn("icy-metaint: 16000", header)
            heard, _ = split_titles(listener.body, 16000)
            heard = heard[:mp3_frames(heard)[1]]
            for word in ("content-range", "content-length", "accept-ranges: bytes"):
                self.assertNotIn(word, header)
            self.judge(sound.decode(heard, self.folder))
        # A probe that is over holds no place.
        self.server.wait_status(lambda s: s["listeners"]["current"] == 0, "nobody is left")

    @takes(15)
    def test_icecast_relays_it_to_its_own_listeners(self):
        ours = Listener(self.server.port)
        ours.wait_bytes(1)
        port = self.relay()
        theirs = [Listener(port, "/relayed.mp3") for _ in range(3)]
        for listener in theirs:
            listener.wait_bytes(250 * 384)
        ours.wait_more_frames(100)
        for listener in theirs:
            listener.hang_up_unjudged()
        ours.hang_up()
        offsets, _ = mp3_frames(ours.body)
        for listener in theirs:
            self.assertEqual(listener.status, 200)
            self.assertRegex(listener.header, "(?i)content-type: audio/mpeg")
            # Icecast begins where one of its buffers does, at any byte.
            heard = bytes(listener.body)
            at = ours.body.find(heard[:4000])
            self.assertGreaterEqual(at, 0, "what Icecast sends first is not of our stream")
            self.assertEqual(heard, bytes(ours.body[at:at + len(heard)]))
            frame = next(offset for offset in offsets if offset >= at)
            whole = heard[frame - at:]
            self.judge(sound.decode(whole[:mp3_frames(whole)[1]], self.folder))
        with open(self.path("icecast/error.log"), encoding="utf-8", errors="replace") as file:
            self.assertNotIn(" EROR ", file.read())
        self.assertEqual(self.server.status()["listeners"]["accepted"], 2, "relayed in one go")


class TestTitles(PlayersTestCase):
    FIRST, SECOND = "Händel - Wassermusik", "It's Björk; 'Jóga' = \u266b"

    def setUp(self):
        super().setUp()
        frame = self.set_title(self.FIRST)
        # So that the burst, too, is all of that title.
        self.server.wait_status(lambda s: s["air"]["frames"] > frame + 100,
                                "the title has been on air for longer than the burst")

    @takes(10)
    def test_in_the_stream_for_those_who_ask(self):
        request = "GET /stream HTTP/1.1\r\nHost: here\r\nIcy-MetaData: 1\r\n\r\n"
        listener = Listener(self.server.port, request=request)
        listener.wait_bytes(60000)
        self.set_title(self.SECOND)
        listener.wait_bytes(120000)
        listener.hang_up_unjudged()
        for line in ("icy-metaint: 16000", "icy-name: Radio Test", "icy-genre: Chords",
                     "icy-url: http://radio.example", "icy-br: 128"):
            self.assertRegex(listener.header, f"(?im)^{line}\\r?$")
        audio, titles = split_titles(listener.body, 16000)
        self.judge(sound.decode(audio[:mp3_frames(audio)[1]], self.folder))
        self.assertEqual(titles, [f"StreamTitle='{text}';" for text in (self.FIRST, self.SECOND)])
        self.assertEqual(self.server.status()["title"]["text"], self.SECOND)

    @takes(8)
    def test_ffprobe_reads_them(self):
        said = self.run_player("ffprobe", "-v", "warning", "-show_entries", "format_tags",
                               self.server.url)
        self.assertIn(f"TAG:StreamTitle={self.FIRST}\n", said)
        self.assertIn("TAG:icy-name=Radio Test\n", said)
        self.assertIn("TAG:icy-genre=Chords\n", said)

    def follow(self, *command, first, second):
        """A player that says the titles as they come."""
        player = self.start(*command)

        def says(text):
            said = player.stdout() + player.stderr()
            return text in said or not player.runs()
        wait_until(lambda: says(first), f"{command[0]} shows the first title", 60)
        self.set_title(self.SECOND)
        wait_until(lambda: says(second), f"{command[0]} shows the second title", 60)
        said = player.stdout() + player.stderr()
        self.assertIn(first, said)
        self.assertIn(second, said)
        self.assertTrue(player.runs(), said)
        return said

    @takes(10)
    def test_mpv_shows_them(self):
        self.follow("mpv", "--no-config", "--no-video", "--ao=null", self.server.url,
                    first=f"icy-title: {self.FIRST}", second=f"icy-title: {self.SECOND}")

    @takes(10)
    def test_mpg123_shows_them(self):
        said = self.follow("mpg123", "--no-control", "-w", "heard.wav", "--utf8", self.server.url,
                           first=f"ICY-META: StreamTitle='{self.FIRST}';",
                           second=f"ICY-META: StreamTitle='{self.SECOND}';")
        self.assertIn("ICY-NAME: Radio Test", said)
        self.assertIsNone(sound.MPG123_FAULT.search(said), said)

    @takes(15)
    def test_an_icecast_relay_passes_them_on(self):
        self.set_title("Holst - Jupiter")
        port = self.relay()
        wait_until(lambda: '"title":"Holst - Jupiter"' in self.icecast_says(port),
                   "Icecast tells the title", 60, 0.2)
        request = "GET /relayed.mp3 HTTP/1.1\r\nHost: here\r\nIcy-MetaData: 1\r\n\r\n"
        listener = Listener(port, request=request)
        listener.wait_bytes(50000)
        # As software made for Icecast sets it.
        self.run_player("curl", "-sSf", "-o", "answer", "-u", f"source:{PASSWORD}", "-G",
                        "-d", "mode=updinfo", "-d", "mount=/stream", "-d", "charset=UTF-8",
                        "--data-urlencode", "song=Holst - Saturn",
                        f"http://127.0.0.1:{self.server.port}/admin/metadata")
        wait_until(lambda: b"StreamTitle='Holst - Saturn'" in listener.body,
                   "Icecast passes the new title on", 60)
        listener.hang_up_unjudged()
        self.assertIn(b"StreamTitle='Holst - Jupiter'", listener.body)
        wait_until(lambda: '"title":"Holst - Saturn"' in self.icecast_says(port),
                   "Icecast tells the new title", 60, 0.2)
        said = self.icecast_says(port)
        self.assertIn('"server_name":"Radio Test"', said)
        self.assertIn('"genre":"Chords"', said)
