"""The judges themselves: each must find the fault that it is there to find."""
import subprocess

import numpy

from harness import TowerTestCase
from listening import BrokenStream, FRAME_SECONDS, frames_lost_to_clock, mp3_frames
import sound


def encode(samples, folder):
    """To MP3 as the transmitter must: constant bitrate, every frame self-contained."""
    done = subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-f", "s16le", "-ar", "48000", "-ac", "2", "-i",
         "pipe:0", "-c:a", "libmp3lame", "-b:a", "128k", "-reservoir", "0", "-write_xing", "0",
         "-id3v2_version", "0", "-f", "mp3", "pipe:1"],
        input=samples.tobytes(), stdout=subprocess.PIPE, check=True, timeout=60, cwd=folder)
    return done.stdout


class TestJudgesOfASong(TowerTestCase):
    def setUp(self):
        super().setUp()
        self.song = sound.song(6, self.folder)
        self.mp3 = encode(self.song, self.folder)

    def assert_refused(self, judge, *arguments):
        self.assertRaises(AssertionError, judge, *arguments)

    def test_a_good_stream_passes(self):
        offsets, end = mp3_frames(self.mp3)
        self.assertEqual(end, len(self.mp3))
        heard = sound.decode(self.mp3, self.folder)
        self.assertEqual(len(heard), len(offsets) * 1152)
        lag, fit = sound.assert_same_music(self.song, heard)
        print(f"lag {lag}, worst fit {fit:.3f}")

    def test_a_missing_frame_is_found(self):
        offsets, _ = mp3_frames(self.mp3)
        cut = self.mp3[:offsets[150]] + self.mp3[offsets[151]:]
        self.assert_refused(sound.assert_same_music, self.song, sound.decode(cut, self.folder))

    def test_two_frames_in_the_wrong_order_are_found(self):
        offsets, _ = mp3_frames(self.mp3)
        a, b, c = offsets[150:153]
        swapped = self.mp3[:a] + self.mp3[b:c] + self.mp3[a:b] + self.mp3[c:]
        self.assert_refused(sound.assert_same_music, self.song, sound.decode(swapped, self.folder))

    def test_a_missing_end_is_found(self):
        heard = sound.decode(self.mp3, self.folder)
        self.assert_refused(sound.assert_same_music, self.song, heard[:-4 * 1152])

    def test_a_silent_frame_is_found(self):
        heard = sound.decode(self.mp3, self.folder).copy()
        heard[200000:201152] = 0
        self.assert_refused(sound.assert_same_music, self.song, heard)

    def test_damage_is_found_by_the_parser_and_both_decoders(self):
        damaged = self.mp3[:50000] + self.mp3[50100:]
        self.assertRaises(BrokenStream, mp3_frames, damaged)
        self.assert_refused(sound.decode_ffmpeg, damaged)
        self.assert_refused(sound.decode_mpg123, damaged, self.folder)

    def test_junk_between_frames_is_found_by_the_parser_and_mpg123(self):
        junk = self.mp3[:384 * 20] + b"\0" * 37 + self.mp3[384 * 20:]
        self.assertRaises(BrokenStream, mp3_frames, junk)
        self.assert_refused(sound.decode_mpg123, junk, self.folder)


class TestMeasures(TowerTestCase):
    def test_a_click_is_found_through_mp3(self):
        smooth = sound.stereo(sound.tone([300, 370], 2.0))
        clicked = smooth.copy()
        clicked[48040:] = 0
        own = sound.largest_step(sound.decode_ffmpeg(encode(smooth, self.folder))[4800:-4800])
        with_click = sound.decode_ffmpeg(encode(clicked, self.folder))
        self.assertGreater(sound.largest_step(with_click[4800:]), 2 * own)

    def test_frequency_and_silence_are_measured(self):
        wave = sound.tone([440], 3.0)
        wave[48000:96000] = 0
        heard = sound.mono(sound.stereo(wave))
        self.assertAlmostEqual(sound.frequency_of(heard[:48000]), 440, delta=0.1)
        self.assertAlmostEqual(sound.strength_of(heard[:48000], 440), 0.5 * 32767, delta=50)
        self.assertLess(sound.strength_of(heard[:48000], 700), 10)
        (begin, end), = sound.silences(heard)
        self.assertAlmostEqual(begin, 48000, delta=480)
        self.assertAlmostEqual(end, 96000, delta=480)

    def test_lost_frames_show_against_the_clock(self):
        random = numpy.random.default_rng(3)
        due = [0.0] * 80 + [0.001 + i * FRAME_SECONDS for i in range(1000)]
        late = [t + random.exponential(0.01) for t in due]
        times = list(numpy.maximum.accumulate(late))
        self.assertLess(abs(frames_lost_to_clock(times)), 0.5)
        del due[600:603]
        times = list(numpy.maximum.accumulate([t + random.exponential(0.01) for t in due]))
        self.assertAlmostEqual(frames_lost_to_clock(times), 3, delta=0.5)
