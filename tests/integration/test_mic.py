"""`tower feed mic`: captured from a real sound server, PulseAudio, through ALSA, without a card."""
import os
import re
import signal
import subprocess
import threading
import time

import numpy

from harness import TOWER, TowerTestCase, takes, wait_until
from listening import Listener
import sound

TONE_HZ = 997  # not whole in a frame, so that one too many or too few is another phase
# How long a tone is listened to without a gap; a minute is what is promised.
SECONDS = float(os.environ.get("MIC_SECONDS") or 60)


class TestMic(TowerTestCase):
    def setUp(self):
        super().setUp()
        self.environment = {
            "HOME": self.folder,
            "XDG_RUNTIME_DIR": self.folder,
            "PULSE_RUNTIME_PATH": self.path("run"),
            "PULSE_STATE_PATH": self.path("state"),
            "PULSE_SERVER": "unix:" + self.path("pulse"),
        }
        self.pulse = None

    def start_pulse(self):
        """A sound server of the test's own, with a sink that nobody hears and a pipe to sing into."""
        if os.path.exists(self.path("pulse")):
            os.unlink(self.path("pulse"))
        # As root it warns and goes on.
        self.pulse = self.start(
            "pulseaudio", "-n", "--daemonize=no", "--system=false", "--exit-idle-time=-1",
            "--use-pid-file=no", "--disable-shm=yes", "--realtime=no", "--high-priority=no",
            "-L", "module-native-protocol-unix auth-anonymous=1 socket=" + self.path("pulse"),
            "-L", "module-null-sink sink_name=desk rate=48000 channels=2",
            "-L", f"module-pipe-source source_name=pipe file={self.path('pipe')} format=s16le "
                  "rate=48000 channels=2",
            environment=self.environment)
        self.wait_pulse()

    def wait_pulse(self):
        def answers():
            self.assertTrue(self.pulse.runs(), self.pulse.stderr())
            return subprocess.run(["pactl", "info"], env={**os.environ, **self.environment},
                                  capture_output=True, timeout=30).returncode == 0
        wait_until(answers, "PulseAudio answers", interval=0.1)

    def play_tone(self, seconds):
        path = self.path("tone.raw")
        with open(path, "wb") as file:
            file.write(sound.stereo(sound.tone([TONE_HZ], seconds)).tobytes())
        return self.start("pacat", "--device=desk", "--format=s16le", "--rate=48000",
                          "--channels=2", "--raw", "--latency-msec=1000", path,
                          environment=self.environment)

    def sing(self, seconds, ppm=0.0):
        """Write a tone to the pipe, whose clock is so much too fast: PulseAudio takes it as it comes."""
        tone = sound.stereo(sound.tone([TONE_HZ], seconds)).tobytes()
        piece = 480 * 4

        def run():
            begin = time.monotonic()
            try:
                with open(self.path("pipe"), "wb", buffering=0) as pipe:
                    for at in range(0, len(tone), piece):
                        due = begin + at / 4 / (sound.RATE * (1 + ppm / 1e6))
                        time.sleep(max(0, due - time.monotonic()))
                        pipe.write(tone[at:at + piece])
            except OSError:
                pass  # the server has ended
        threading.Thread(target=run, daemon=True).start()

    def feed_mic(self, server, source="desk.monitor", *words):
        return self.feed(server, "mic:pulse", *words,
                         environment={**self.environment, "PULSE_SOURCE": source})

    def wait_loud(self, server):
        server.wait_status(lambda s: s["origin"] == "live" and max(s["levels"]["peak_dbfs"]) > -20,
                           "the tone is on air")

    def heard(self, server, seconds):
        """What a listener who comes now hears for so long, as mono samples."""
        listener = Listener(server.port)
        listener.wait_bytes(1)
        # A burst of what was before comes first.
        listener.wait_more_frames(round(seconds / 0.024) + 90, seconds + 60)
        return sound.mono(sound.decode(listener.hang_up(), self.folder))

    def end_feeder(self, feeder):
        feeder.kill(signal.SIGTERM)
        self.assertEqual(feeder.wait(), 0, feeder.stderr())

    def assert_unbroken_tone(self, samples):
        """As loud all the time, and of a phase that never jumps."""
        window = 960
        samples = samples[4800:]  # the decoder begins with silence
        count = len(samples) // window
        times = numpy.arange(count * window) / sound.RATE
        carrier = samples[:count * window] * numpy.exp(-2j * numpy.pi * TONE_HZ * times)
        found = carrier.reshape(count, window).mean(axis=1)
        strength, phase = abs(found), numpy.unwrap(numpy.angle(found))
        usual = numpy.median(strength)
        self.assertGreater(usual, 4000)
        off = abs(strength / usual - 1)
        self.assertLess(off.max(), 0.05, f"at {off.argmax() * 0.02:.2f} s of {count * 0.02:.2f}")
        # A thousandth of a turn is 50 ppm of the tone in 20 ms. A source that a loaded machine makes
        # late may be followed by 1000 ppm; a frame lost is 70 thousandths.
        self.assertLess(abs(numpy.diff(phase)).max() / (2 * numpy.pi), 0.03)

    @takes(75)
    def test_a_tone_is_heard_without_a_gap(self):
        self.start_pulse()
        # A machine with other work is late by more than two frames now and then.
        server = self.serve("--grace", "0", "--tone-frequency", "0", "--cushion-frames", "12")
        self.play_tone(SECONDS + 60)
        feeder = self.feed_mic(server)
        self.wait_loud(server)
        # The burst must be of the tone, too.
        listener = Listener(server.port)
        listener.wait_bytes(1)
        listener.wait_more_frames(180)
        listener.hang_up()
        before = server.status()
        heard = self.heard(server, SECONDS)
        after = server.status()
        for origin, count in after["frames_by_origin"].items():
            if origin != "live":
                self.assertEqual(count, before["frames_by_origin"][origin], origin)
        self.assertAlmostEqual(sound.frequency_of(heard), TONE_HZ, delta=0.5)
        self.assert_unbroken_tone(heard)
        self.assertLess(abs(after["router"]["count"] - before["router"]["count"]), 4)
        self.end_feeder(feeder)
        self.assertNotIn("dropped", feeder.stderr())
        # The time it takes to know the clock is half a minute.
        if SECONDS >= 40:
            found = re.search(r"clock was ([-+][\d.]+) ppm off \(\+-([\d.]+)\)", feeder.stderr())
            self.assertIsNotNone(found, feeder.stderr())
            self.assertLess(abs(float(found.group(1))), 500)
        self.stop(server)

    @takes(15)
    def test_a_pipe_source(self):
        self.start_pulse()
        server = self.serve("--grace", "0", "--tone-frequency", "0")
        self.sing(30)
        feeder = self.feed_mic(server, "pipe")
        self.wait_loud(server)
        heard = self.heard(server, 3)
        self.assertAlmostEqual(sound.frequency_of(heard[-96000:]), TONE_HZ, delta=0.5)
        self.end_feeder(feeder)
        self.stop(server)

    @takes(45)
    def test_a_clock_that_is_wrong_is_found(self):
        self.start_pulse()
        server = self.serve("--grace", "0", "--tone-frequency", "0")
        seconds = 30  # its clock is known after 20 s
        self.sing(seconds + 30, 300)
        feeder = self.feed_mic(server, "pipe")
        self.wait_loud(server)
        self.heard(server, seconds)
        said = server.status()["producers"]["list"][0]["clock"]
        self.assertAlmostEqual(said["ppm"], 300, delta=20)
        self.assertAlmostEqual(said["correction_ppm"], -300, delta=150)
        self.assertFalse(said["out_of_range"])
        self.end_feeder(feeder)
        found = re.search(r"clock was ([-+][\d.]+) ppm off", feeder.stderr())
        self.assertIsNotNone(found, feeder.stderr())
        self.assertAlmostEqual(float(found.group(1)), 300, delta=20)
        self.stop(server)

    @takes(20)
    def test_a_server_that_dies_is_waited_for_and_taken_again(self):
        self.start_pulse()
        server = self.serve("--grace", "0", "--tone-frequency", "0")
        self.play_tone(60)
        feeder = self.feed_mic(server)
        self.wait_loud(server)
        self.pulse.kill(signal.SIGKILL)
        self.pulse.wait()
        wait_until(lambda: "went away" in feeder.stderr(), "the feeder says that it is gone")
        server.wait_origin("silence")
        self.assertTrue(feeder.runs())
        self.start_pulse()
        self.play_tone(60)
        wait_until(lambda: "is back" in feeder.stderr(), "the feeder says that it is back")
        self.wait_loud(server)
        self.assertEqual(feeder.stderr().count("went away"), 1, feeder.stderr())
        self.end_feeder(feeder)
        self.stop(server)

    @takes(10)
    def test_other_rates_and_channels(self):
        self.start_pulse()
        server = self.serve("--grace", "0", "--tone-frequency", "0")
        self.play_tone(30)
        feeder = self.feed_mic(server, "desk.monitor", "--rate", "44100", "--channels", "1")
        self.wait_loud(server)
        heard = self.heard(server, 3)
        self.assertAlmostEqual(sound.frequency_of(heard[-96000:]), TONE_HZ, delta=0.5)
        self.end_feeder(feeder)
        self.stop(server)

    @takes(15)
    def test_overruns_are_counted_and_recovered_from(self):
        """A feeder that is stopped for two seconds reads nothing, and the buffer holds half of one."""
        self.start_pulse()
        server = self.serve("--grace", "0", "--tone-frequency", "0")
        self.play_tone(60)
        feeder = self.feed_mic(server)
        self.wait_loud(server)
        feeder.kill(signal.SIGSTOP)
        wait_until(lambda: "sends nothing" in server.stderr(), "two seconds have gone by")
        feeder.kill(signal.SIGCONT)
        self.wait_loud(server)
        wait_until(lambda: "samples were lost" in feeder.stderr(), "the feeder says so")
        # What waited in the sound server meanwhile was not put on air late.
        begun = server.status()["router"]["pushed_count"]
        server.wait_status(lambda s: s["router"]["pushed_count"] > begun + 40, "a second has gone by")
        # A pump that is late itself leaves more there, for a moment; what is late stays.
        server.wait_status(lambda s: s["router"]["count"] < 8, "the queue is short")
        server.wait_status(lambda s: (s["producers"]["list"][0]["clock"] or {}).get("overruns") == 1,
                           "the transmitter knows, too")
        self.end_feeder(feeder)
        self.assertIn("1 times so far", feeder.stderr())
        self.stop(server)

    def test_a_wrong_name_lists_the_right_ones(self):
        feeder = self.tower("feed", "mic:nonesuch", environment=self.environment)
        self.assertEqual(feeder.code, 2)
        lines = feeder.stderr().splitlines()
        self.assertEqual(len(lines), 1, lines)
        self.assertIn("mic:nonesuch", lines[0])
        self.assertIn("pulse", lines[0])

    def test_a_sound_server_that_does_not_run_is_named(self):
        feeder = self.tower("feed", "mic:pulse", environment=self.environment)
        self.assertEqual(feeder.code, 1)
        self.assertEqual(len(feeder.stderr().splitlines()), 1, feeder.stderr())
        self.assertIn("does not run", feeder.stderr())

    def test_list_names_devices_as_people_do(self):
        listing = self.tower("feed", "--list", environment=self.environment)
        self.assertEqual(listing.code, 0, listing.stderr())
        self.assertEqual(listing.stderr(), "")
        self.assertRegex(listing.stdout(), r"(?m)^mic:pulse +PulseAudio Sound Server$")

    def test_usage(self):
        for words in (["mic:"], ["mic", "--loop"], ["mic", "--paced"], ["mic", "--rate", "7"]):
            feeder = self.tower("feed", *words)
            self.assertEqual(feeder.code, 2, words)
            self.assertEqual(len(feeder.stderr().splitlines()), 1, feeder.stderr())
