"""The programme falls silent and comes back: the fallback in between, and not a sample lost."""
import os
import socket

import numpy

from harness import TowerTestCase, takes
from listening import Listener
import sound

TONE_HZ = 440
# No whole number of frames, so that the programme falls silent and returns within one.
SILENCE_SECONDS = 4.01


class TestDeadAir(TowerTestCase):
    def setUp(self):
        super().setUp()
        music = sound.song(7, self.folder, seed=5)
        self.before = music[:round(3.005 * sound.RATE)]
        # From the middle of a loud place: the very first sample is far from zero.
        loud = numpy.abs(music[4 * sound.RATE:5 * sound.RATE, 0]).argmax() + 4 * sound.RATE
        self.after = music[loud:loud + 2 * sound.RATE]
        silence = numpy.zeros((round(SILENCE_SECONDS * sound.RATE), 2), "<i2")
        # The end fills no frame and would be dropped.
        padding = numpy.zeros((1152, 2), "<i2")
        self.programme = numpy.concatenate([self.before, silence, self.after, padding])

    def assert_heard(self, heard, most_late_seconds):
        """What was before and what came after are there, whole, and the tone in between."""
        lag, _ = sound.assert_same_music(self.before, heard)
        end = lag + len(self.before)
        again, _ = sound.assert_same_music(self.after, heard, near=end)
        away = (again - end) / sound.RATE
        print(f"  away for {away:.3f} s, of which {SILENCE_SECONDS} s are the programme's")
        self.assertGreaterEqual(away, SILENCE_SECONDS - 0.001)
        self.assertLessEqual(away, SILENCE_SECONDS + most_late_seconds)
        # The first 2 ms are as loud as they were: they are not faded in.
        first = round(0.002 * sound.RATE)
        loudness = sound.mono(heard[again:again + first]).std() / \
            sound.mono(self.after[:first]).std()
        level = numpy.abs(sound.mono(heard[again:again + first])).mean() / \
            numpy.abs(sound.mono(self.after[:first])).mean()
        print(f"  the first 2 ms: {level:.2f} of their level, {loudness:.2f} of their movement")
        self.assertGreater(level, 0.88)
        # Silence for as long as it takes to tell (1 s) and for the grace period (0.5 s).
        quiet = sound.silences(sound.mono(heard[end:again]))
        self.assertAlmostEqual(quiet[0][1] / sound.RATE, 1.5, delta=0.15)
        tone = sound.mono(heard[end + 2 * sound.RATE:again - sound.RATE // 4])
        self.assertAlmostEqual(sound.frequency_of(tone), TONE_HZ, delta=2)

    def flags(self, action):
        return ("--dead-air-after", "1", "--dead-air-action", action, "--grace", "0.5",
                "--tone-frequency", TONE_HZ)

    @takes(16)
    def test_the_fallback_is_on_air_until_a_live_programme_returns(self):
        path = sound.write_wav(self.path("programme.wav"), self.programme)
        # The largest cushion: on a machine with other work, ffmpeg is late now and then.
        server = self.serve(*self.flags("fallback"), "--cushion-frames", "16")
        listener = Listener(server.port)
        listener.wait_bytes(1)
        self.start("ffmpeg", "-nostdin", "-v", "error", "-re", "-i", path, "-f", "s16le",
                   f"unix:{server.socket_path}")
        server.wait_origin("live")
        status = server.wait_origin("tone")
        self.assertGreater(status["input"]["dead_air"]["seconds"], 1.0)
        self.assertEqual(status["input"]["dead_air"]["count"], 1)
        self.assertEqual(status["producers"]["connected"], 1)
        status = server.wait_origin("live")
        self.assertIsNone(status["input"]["dead_air"]["seconds"])
        server.wait_status(lambda s: s["producers"]["connected"] == 0, "the producer is done")
        status = server.wait_origin("tone")
        listener.wait_more_frames(20)
        heard = sound.decode(listener.hang_up(), self.folder)
        self.stop(server)
        # Late by what is looked at before it is believed, and by what ffmpeg is.
        self.assert_heard(heard, 1.0)
        self.assertEqual(status["input"]["dead_air"]["count"], 1)
        self.assertAlmostEqual(status["input"]["dead_air"]["total_seconds"], SILENCE_SECONDS,
                               delta=1.5)
        self.assertIn("dead air, for 1.0 s", server.stderr())
        self.assertIn("dead air, is over after", server.stderr())

    def wait_title(self, server, origin, text):
        server.wait_status(
            lambda s: s["origin"] == origin and s["title"] and s["title"]["text"] == text,
            f"the title is '{text}' while the origin is {origin}")

    @takes(16)
    def test_one_that_is_ahead_of_its_time_is_not_hurried(self):
        """Dead air takes as long as it lasts, also for a producer that is slowed by its socket."""
        server = self.serve(*self.flags("fallback"))
        listener = Listener(server.port)
        producer = self.produce(server)
        title = os.memfd_create("title")
        os.write(title, b"Holst - Jupiter")
        data = self.programme.tobytes()
        socket.send_fds(producer.socket, [data[:sound.FRAME_BYTES]], [title])
        os.close(title)
        producer.start_sending([data[sound.FRAME_BYTES:]])
        self.wait_title(server, "live", "Holst - Jupiter")
        self.wait_title(server, "tone", "")
        self.wait_title(server, "live", "Holst - Jupiter")
        status = server.wait_origin("tone")
        producer.wait_sent()
        listener.wait_more_frames(20)
        heard = sound.decode(listener.hang_up(), self.folder)
        self.stop(server)
        self.assert_heard(heard, 0.001)
        # All but the second that it took to tell, and what was held until the programme was back.
        self.assertAlmostEqual(status["input"]["withheld_frames"],
                               (SILENCE_SECONDS - 1) / 0.024, delta=3)
        self.assertEqual(status["router"]["overflow_count"], 0)

    @takes(8)
    def test_alarm_only(self):
        server = self.serve(*self.flags("alarm"))
        producer = self.produce(server)
        producer.start_sending([bytes(sound.FRAME_BYTES * 200)])
        server.wait_origin("live")
        status = server.wait_status(lambda s: s["frames_by_origin"]["live"] > 80,
                                    "two seconds of silence were on air")
        self.assertEqual(status["input"]["dead_air"]["count"], 1)
        self.assertEqual(status["origin"], "live")
        self.assertEqual(status["input"]["withheld_frames"], 0)
        producer.wait_sent()
        server.wait_status(lambda s: s["input"]["disconnected"]["seconds"],
                           "it is said that nobody is connected")
        self.stop(server)
