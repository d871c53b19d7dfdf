"""What was made for Icecast sends to Tower: ffmpeg, curl, Liquidsoap, ezstream, darkice, BUTT; and who
may not."""
import os
import signal
import socket
import subprocess
import time

import numpy
import sound
import test_mic
from harness import TowerTestCase, process_exists, takes, wait_until

PASSWORD = "sesame"
TONE = 997
EZSTREAM_XML = """<ezstream>
  <servers><server><name>default</name><protocol>http</protocol><hostname>127.0.0.1</hostname>
    <port>{port}</port><user>source</user><password>{password}</password>{tls}</server>
  </servers>
  <streams><stream><name>default</name><mountpoint>/live.mp3</mountpoint><format>MP3</format>
  </stream></streams>
  <intakes><intake><name>default</name><type>stdin</type></intake></intakes>
</ezstream>
"""
DARKICE = """[general]
duration = 0
bufferSecs = 2
realtime = no
[input]
device = pulseaudio
paSourceName = desk.monitor
sampleRate = 44100
bitsPerSample = 16
channel = 2
[icecast2-0]
bitrateMode = cbr
format = mp3
bitrate = 128
server = 127.0.0.1
port = {port}
password = {password}
mountPoint = live
"""
BUTT = """[main]
server = tower
srv_ent = tower
num_of_srv = 1
num_of_icy = 0
song_update = 1
song_path = {song}
[audio]
device = default
samplerate = 48000
bitrate = 128
channel = 2
codec = {codec}
buffer_ms = 50
resample_mode = 1
[record]
codec = mp3
bitrate = 128
samplerate = 48000
channel = 2
folder = {folder}/
filename = never.mp3
[tower]
address = 127.0.0.1
port = {port}
password = {password}
type = 1
tls = 0
mount = live
usr = source
"""
LIQUIDSOAP = """settings.server.telnet.set(false)
settings.init.allow_root.set(true)
s = sine({tone}.)
output.icecast({format}, host="127.0.0.1", port={port}, password="{password}", mount="{mount}",
               {more} fallible=true, s)
"""


class TestSourceRequests(TowerTestCase):
    # A sound server without a sound card.
    start_pulse = test_mic.TestMic.start_pulse
    wait_pulse = test_mic.TestMic.wait_pulse
    play_tone = test_mic.TestMic.play_tone

    def setUp(self):
        super().setUp()
        with open(self.path("password"), "w", encoding="ascii") as file:
            file.write(PASSWORD + "\n")
        with open(self.path("users"), "w", encoding="ascii") as file:
            file.write("# one\nalice:wonder:studio\n")
        self.server = self.serve("--grace", "0.5", "--burst-ms", "0", "--tone-frequency", "0",
                                 "--source-password-file", self.path("password"), "--source-users-file",
                                 self.path("users"))

    def ffmpeg(self, mount, *words, user="source", password=PASSWORD):
        more = words or ("-f", "mp3")
        return self.start("ffmpeg", "-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i",
                          f"sine=frequency={TONE}:duration=60", *more,
                          f"icecast://{user}:{password}@127.0.0.1:{self.server.port}{mount}")

    def curl(self, *words, password=PASSWORD):
        return self.start("curl", "-s", "-S", "-i", "-u", f"source:{password}", *words)

    def source(self, name):
        def found():
            list_ = self.server.status()["producers"]["list"]
            return [p for p in list_ if p.get("name", name) == name and p["on_air"]]
        return wait_until(found, f"{name} is on air")[0]

    def assert_heard(self):
        """What goes out is the tone that came in."""
        self.source("live")
        self.server.wait_origin("live")
        mp3 = subprocess.run(["curl", "-s", "-m", "2", self.server.url], stdout=subprocess.PIPE,
                             check=False).stdout
        pcm = subprocess.run(["mpg123", "-q", "-s", "--mono", "-"], input=mp3, check=False,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        pcm = numpy.frombuffer(pcm[:len(pcm) // 2 * 2], "<i2")[-sound.RATE // 2:] / 32768
        spectrum = numpy.abs(numpy.fft.rfft(pcm * numpy.hanning(len(pcm))))
        self.assertAlmostEqual(numpy.argmax(spectrum) * sound.RATE / len(pcm), TONE, delta=4)

    def wait_gone(self):
        self.server.wait_status(lambda s: s["sources"]["running"] == 0, "the source client is gone")

    # ---- who comes ----

    @takes(10)
    def test_ffmpeg_goes_live_with_put(self):
        client = self.ffmpeg("/live.mp3", "-ice_name", "Morning Caf\u00e9", "-f", "mp3")
        self.assert_heard()
        self.assertEqual(self.source("live")["label"], "Morning Caf\u00e9")
        status = self.tower("status", f"http://127.0.0.1:{self.server.port}")
        self.assertRegex(status.stdout(), "live, Morning Caf\u00e9, is on air for ")
        client.kill(signal.SIGINT)
        self.wait_gone()

    @takes(10)
    def test_ffmpeg_goes_live_as_it_used_to(self):
        client = self.ffmpeg("/stream", "-legacy_icecast", "1", "-content_type", "application/ogg",
                             "-c:a", "libvorbis", "-f", "ogg")
        self.assert_heard()
        client.kill()
        self.wait_gone()

    @takes(10)
    def test_liquidsoap_goes_live_with_source(self):
        self.liquidsoap("%mp3(bitrate=96)", "live", "")
        self.assert_heard()

    @takes(10)
    def test_liquidsoap_goes_live_with_put_in_chunks(self):
        self.liquidsoap("%vorbis", "live.ogg", 'method="put", chunked=true,')
        self.assert_heard()

    def liquidsoap(self, form, mount, more):
        with open(self.path("radio.liq"), "w", encoding="ascii") as file:
            file.write(LIQUIDSOAP.format(tone=TONE, format=form, port=self.server.port,
                                         password=PASSWORD, mount=mount, more=more))
        return self.start("liquidsoap", self.path("radio.liq"))

    @takes(10)
    def test_ezstream_goes_live(self):
        """As it comes: libshout asks first, with `OPTIONS *`, whether there is TLS."""
        self.ezstream("")

    @takes(10)
    def test_ezstream_goes_live_without_asking_for_tls(self):
        self.ezstream("<tls>none</tls>")

    def ezstream(self, tls):
        with open(self.path("ez.xml"), "w", encoding="ascii") as file:
            file.write(EZSTREAM_XML.format(port=self.server.port, password=PASSWORD, tls=tls))
        os.chmod(self.path("ez.xml"), 0o600)
        song = self.encoded(30, "-f", "mp3")
        with open(song, "rb") as file:
            self.start("ezstream", "-c", self.path("ez.xml"), stdin=file)
        self.assert_heard()
        # libshout asks without a password first, which is no guess.
        self.assertEqual(self.server.status()["sources"]["refused_password"], 0)

    def play_into_a_sound_card(self):
        self.environment = {"HOME": self.folder, "XDG_RUNTIME_DIR": self.folder,
                            "PULSE_RUNTIME_PATH": self.path("run"),
                            "PULSE_STATE_PATH": self.path("state"),
                            "PULSE_SERVER": "unix:" + self.path("pulse")}
        self.start_pulse()
        self.play_tone(60)

    @takes(15)
    def test_darkice_goes_live_from_a_sound_card(self):
        self.play_into_a_sound_card()
        with open(self.path("darkice.cfg"), "w", encoding="ascii") as file:
            file.write(DARKICE.format(port=self.server.port, password=PASSWORD))
        self.start("darkice", "-c", self.path("darkice.cfg"), environment=self.environment)
        self.assert_heard()

    @takes(15)
    def test_butt_goes_live_in_mp3(self):
        self.butt("mp3")

    @takes(15)
    def test_butt_goes_live_in_flac(self):
        self.butt("flac")

    def butt(self, codec):
        """It needs a screen, and takes its time: its first sound comes 1.5 s after its request. One
        that is set to connect as it starts crashes now and then, on a mutex of its own."""
        self.play_into_a_sound_card()
        screen = self.start("Xvfb", "-displayfd", "1", "-screen", "0", "800x600x24",
                            "-nolisten", "tcp")
        number = wait_until(lambda: screen.stdout().strip(), "there is a screen")
        with open(self.path(".asoundrc"), "w", encoding="ascii") as file:
            file.write("pcm.!default pulse\nctl.!default pulse\n")
        with open(self.path("song.txt"), "w", encoding="utf-8") as file:
            file.write("Caf\u00e9 at noon\n")
        with open(self.path("buttrc"), "w", encoding="ascii") as file:
            file.write(BUTT.format(port=self.server.port, password=PASSWORD, codec=codec,
                                   folder=self.folder, song=self.path("song.txt")))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        client = self.start("butt", "-p", port, "-c", self.path("buttrc"),
                            environment={**self.environment, "DISPLAY": ":" + number,
                                         "PULSE_SOURCE": "desk.monitor"})
        wait_until(lambda: subprocess.run(["butt", "-p", port, "-S"], check=False, timeout=30,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                   .returncode == 0, "it takes commands", interval=0.1)
        subprocess.run(["butt", "-p", port, "-s", "tower"], check=True, timeout=30)
        self.assert_heard()
        self.server.wait_status(lambda s: s["title"]["text"] == "Caf\u00e9 at noon", "its title is there")
        client.kill(signal.SIGTERM)
        self.wait_gone()

    def encoded(self, seconds, *words):
        path = self.path("song")
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i",
                        f"sine=frequency={TONE}:duration={seconds}", *words, path], check=True,
                       timeout=60)
        return path

    @takes(15)
    def test_curl_sends_a_file(self):
        song = self.encoded(6, "-f", "flac")
        client = self.curl("-T", song, "-H", "Content-Type: audio/flac",
                           "-H", "Transfer-Encoding: chunked",
                           f"http://127.0.0.1:{self.server.port}/live")
        self.assert_heard()
        self.assertEqual(client.wait(), 0, client.stderr())
        self.assertIn("HTTP/1.0 200 OK", client.stdout())
        wait_until(lambda: "the client sent its end" in self.server.stderr(), "its end is known")

    @takes(10)
    def test_curl_sends_a_file_of_a_length(self):
        song = self.encoded(2, "-f", "mp3")
        client = self.curl("-T", song, "-H", "Content-Type: audio/mpeg",
                           f"http://127.0.0.1:{self.server.port}/live")
        self.source("live")
        # Some 3 s; were the end not known, 10 s more.
        self.assertEqual(client.wait(8), 0, client.stderr())
        self.assertIn("the client sent its end", self.server.stderr())

    # ---- on air in time, and through deaths ----

    @takes(15)
    def test_from_connection_to_on_air_under_a_second(self):
        """The best of five, since the machine has others to serve too."""
        song = self.encoded(3, "-f", "mp3")
        took = []
        while len(took) < 5 and min(took, default=2) >= 1:
            began = time.monotonic()
            client = self.curl("-T", song, "-H", "Content-Type: audio/mpeg",
                               f"http://127.0.0.1:{self.server.port}/live")
            self.source("live")
            took.append(time.monotonic() - began)
            client.kill()
            self.wait_gone()
        self.assertLess(min(took), 1)

    @takes(15)
    def test_the_workers_death_ends_no_source_client(self):
        self.ffmpeg("/live.mp3")
        before = self.source("live")
        worker = self.server.worker
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: self.server.worker not in (None, worker), "another worker is there")
        after = self.source("live")
        self.assertEqual((after["id"], after["pid"]), (before["id"], before["pid"]))
        self.server.wait_status(lambda s: s["sources"]["running"] == 1, "it is counted")
        # The mount is known to be in use by the worker that has not started it.
        other = self.curl("-T", os.devnull, "-H", "Content-Type: audio/mpeg",
                          f"http://127.0.0.1:{self.server.port}/live")
        other.wait()
        self.assertIn("403 Forbidden", other.stdout())
        self.assertIn("Mountpoint in use", other.stdout())
        self.assert_heard()

    @takes(10)
    def test_a_stop_ends_the_process_of_a_source_client(self):
        self.ffmpeg("/live.mp3")
        pid = self.source("live")["pid"]
        self.assertEqual(self.server.stop(), 0)
        wait_until(lambda: not process_exists(pid), "its process ends with the transmitter")

    # ---- titles ----

    @takes(10)
    def test_titles_go_with_the_sound(self):
        self.ffmpeg("/live.mp3")
        self.source("live")
        title = self.curl("-G", f"http://127.0.0.1:{self.server.port}/admin/metadata",
                          "-d", "mode=updinfo", "-d", "mount=/live.mp3",
                          "--data-urlencode", "song=Holst - Jupiter")
        title.wait()
        self.assertIn("<return>1</return>", title.stdout())
        self.server.wait_status(lambda s: s["title"] and s["title"]["text"] == "Holst - Jupiter",
                                "the title is on air")

    # ---- who may not ----

    @takes(10)
    def test_a_wrong_password_is_slow_and_holds_up_nobody(self):
        began = time.monotonic()
        guess = self.curl("-T", os.devnull, "-H", "Content-Type: audio/mpeg", "-H", "Expect:",
                          f"http://127.0.0.1:{self.server.port}/live", password="guess")
        self.server.wait_status(lambda s: s["sources"]["refused_password"] == 1, "it is counted")
        self.assertTrue(guess.runs(), "its answer waits")
        again = self.curl("-T", os.devnull, "-H", "Content-Type: audio/mpeg",
                          f"http://127.0.0.1:{self.server.port}/live")
        again.wait()
        # On a machine that was stopped meanwhile the first answer may have gone out.
        self.assertTrue("429 Too Many" in again.stdout() or time.monotonic() - began > 1)
        guess.wait()
        self.assertIn("401 Unauthorized", guess.stdout())
        self.assertGreaterEqual(time.monotonic() - began, 1.0)
        self.assertNotIn(PASSWORD, self.server.stderr())

    @takes(10)
    def test_a_user_has_his_mounts(self):
        client = self.ffmpeg("/live", user="alice", password="wonder")
        self.assertNotEqual(client.wait(), 0)
        self.assertIn("403", client.stderr())
        self.ffmpeg("/studio.mp3", user="alice", password="wonder")
        self.server.wait_status(lambda s: s["sources"]["running"] == 1, "the other is let in")
        for pid in self.source_processes():
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                self.assertNotIn(b"wonder", file.read())

    def source_processes(self):
        pids = [p["pid"] for p in self.server.status()["producers"]["list"]]
        return wait_until(lambda: pids or self.source_processes(), "its process is a producer")

    @takes(15)
    def test_other_passwords_are_taken_up_by_a_reload(self):
        with open(self.path("password"), "w", encoding="ascii") as file:
            file.write("\n")
        self.server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "No password in its first line" in self.server.stderr(), "it is refused")
        with open(self.path("password"), "w", encoding="ascii") as file:
            file.write("other\n")
        worker = self.server.worker
        self.server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.server.worker not in (None, worker), "another worker is there")
        self.ffmpeg("/live", password="other")
        self.assert_heard()
