"""The fallback file: on air when nobody feeds, looped without a seam."""
import os

import numpy

from harness import TowerTestCase, takes
from listening import Listener
import sound

HZ, PEAK, SECONDS = 500, 0.3, 1.5  # a whole number of periods, not of frames


class TestFallbackFile(TowerTestCase):
    def loop_file(self, name, *words):
        wave = sound.stereo(sound.tone([HZ], SECONDS, PEAK))
        path = sound.write_wav(self.path("loop.wav"), wave)
        return sound.convert(path, self.path(name), *words)

    def judge_loop(self, path, step_limit, level_limit):
        server = self.serve("--fallback", path, "--grace", "0")
        server.wait_origin("file")
        listener = Listener(server.port)
        server.wait_status(lambda s: s["frames_by_origin"]["file"] > 280, "it was played 4 times")
        mp3 = listener.hang_up()
        status = server.status()
        self.stop(server)
        self.assertGreaterEqual(status["fallback"]["file_loops"], 3)
        self.assertEqual(status["fallback"]["file_errors"], 0)
        heard = sound.decode(mp3, self.folder)
        # The first half second holds whatever was on air before the file was decoded.
        heard = heard[-round(5.0 * sound.RATE):]
        own = sound.largest_step(sound.stereo(sound.tone([HZ], SECONDS, PEAK)))
        step = sound.largest_step(heard)
        level = sound.rms_by_window(sound.mono(heard), 0.01)
        usual = float(numpy.median(level))
        print(f"  {os.path.basename(path)}: largest step {step}, the sine's own {own}; "
              f"level {level.min() / usual:.2f} to {level.max() / usual:.2f}")
        self.assertAlmostEqual(sound.frequency_of(sound.mono(heard)), HZ, delta=0.2)
        # LAME takes up to 0.5 dB off by itself.
        self.assertAlmostEqual(usual / (PEAK * 32767 / 2 ** 0.5), 1, delta=0.07)
        self.assertLessEqual(step, own * step_limit)
        self.assertGreater(level.min(), usual * (1 - level_limit))

    @takes(12)
    def test_flac_loops_without_a_seam(self):
        self.judge_loop(self.loop_file("loop.flac"), 1.05, 0.1)

    @takes(12)
    def test_m4a_by_ffmpeg_loops_without_a_seam(self):
        self.judge_loop(self.loop_file("loop.m4a", "-c:a", "alac"), 1.05, 0.1)

    @takes(12)
    def test_ogg_loops_without_a_gap(self):
        # Lossy: the file's own ends are not quite the sine; a gap would be far worse than this.
        self.judge_loop(self.loop_file("loop.ogg", "-c:a", "libvorbis", "-q:a", "9"), 1.5, 0.3)

    @takes(12)
    def test_mp3_loops_without_a_gap(self):
        self.judge_loop(self.loop_file("loop.mp3", "-b:a", "256k"), 1.5, 0.3)

    @takes(8)
    def test_a_file_that_cannot_be_decoded_leaves_the_tone(self):
        path = self.path("notes.mp3")
        with open(path, "w", encoding="utf-8") as file:
            file.write("These are my notes, not music.\n" * 50)
        server = self.serve("--fallback", path, "--grace", "0")
        status = server.wait_status(lambda s: s["fallback"]["file_errors"] > 0, "it is counted")
        self.assertEqual(server.wait_origin("tone")["state"], "on air")
        self.stop(server)
        self.assertIn("notes.mp3", server.stderr())

    @takes(14)
    def test_a_file_that_is_mended_is_taken_up(self):
        path = self.path("later.wav")
        with open(path, "wb") as file:
            file.write(b"not yet")
        server = self.serve("--fallback", path, "--grace", "0")
        server.wait_origin("tone")
        os.replace(self.loop_file("loop2.wav", "-c:a", "pcm_s16le"), path)
        server.wait_origin("file", 60)
        self.stop(server)

    @takes(8)
    def test_tone_0_is_silence(self):
        server = self.serve("--tone-frequency", "0", "--grace", "0")
        server.wait_origin("silence")
        self.stop(server)
