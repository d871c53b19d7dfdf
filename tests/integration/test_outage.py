"""The feeder dies: silence, tone, live again, and nobody's connection breaks."""
import signal
import threading
import time

import numpy

from harness import TowerTestCase, takes, wait_until
from listening import Listener, frames_lost_to_clock
import sound

# Whole periods in a frame, and an eighth of one to begin with: wherever between two frames it is
# cut, the bare cut would be a step of two fifths of its peak, and of a slope as well.
CHORD = [8 * 48000 / 1152, 10 * 48000 / 1152, 13 * 48000 / 1152]


def chord_of(seconds):
    return sound.stereo(sound.tone(CHORD, seconds, peak=0.6, phase=0.25 * numpy.pi))


class OriginWatch(threading.Thread):
    """Notes every origin that /status shows, in order."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server = server
        self.seen = []
        self.is_over = False
        self.error = None
        self.start()

    def run(self):
        try:
            while not self.is_over:
                origin = self.server.status()["origin"]
                if not self.seen or self.seen[-1] != origin:
                    self.seen.append(origin)
                time.sleep(0.02)
        except (OSError, AssertionError) as error:
            self.error = error

    def end(self):
        self.is_over = True
        self.join(10)
        assert self.error is None, self.error
        return self.seen


class TestOutage(TowerTestCase):
    def assert_smooth(self, name, piece, own):
        step = sound.largest_step(piece)
        print(f"  {name}: largest step {step}, the programme's own {own}")
        # What MP3 at 128 kbit/s adds to a wave that goes on smoothly is under 3 %.
        self.assertLessEqual(step, 1.05 * own + 8, name)

    @takes(25)
    def test_a_killed_feeder_is_followed_by_grace_tone_and_live_again(self):
        chord = chord_of(30)
        path = sound.write_wav(self.path("chord.wav"), chord)
        server = self.serve("--grace", "1")
        server.wait_status(lambda s: s["frames_by_origin"]["tone"] > 100,
                           "the burst that the listener gets is all tone")
        listener = Listener(server.port)
        listener.wait_bytes(1)
        watch = OriginWatch(server)
        feeder = self.feed(server, path)
        server.wait_origin("live")
        listener.wait_more_frames(120)
        feeder.kill(signal.SIGKILL)
        self.assertEqual(feeder.wait(), -signal.SIGKILL)
        server.wait_origin("tone")
        listener.wait_more_frames(80)
        again = self.feed(server, path)
        server.wait_origin("live")
        listener.wait_more_frames(80)
        seen = watch.end()
        status = server.status()
        self.assertTrue(listener.is_alive(), "the listener was connected throughout")
        mp3 = listener.hang_up()
        again.kill(signal.SIGTERM)
        again.wait()
        self.stop(server)
        self.assertEqual(seen, ["tone", "live", "grace", "tone", "live"])
        # The outage's silence is the grace period, in whole frames.
        self.assertEqual(status["frames_by_origin"]["grace"] % 42, 0, status["frames_by_origin"])
        self.assertLess(abs(frames_lost_to_clock(listener.frame_times())), 1.5)
        heard = sound.decode(mp3, self.folder)
        self.judge_seams(heard, chord)

    def judge_seams(self, heard, chord):
        mid = sound.mono(heard)
        quiet = sound.silences(mid)
        self.assertEqual(len(quiet), 1, f"one silence: the grace; {quiet}")
        begin, end = quiet[0]
        self.assertAlmostEqual((end - begin) / sound.RATE, 1.0, delta=0.08)
        window = 2400
        is_live = numpy.array([sound.strength_of(mid[at:at + window], CHORD[0]) > 1500
                               for at in range(0, len(mid) - window, window)])
        live_at = numpy.flatnonzero(is_live) * window
        first_live = int(live_at[0])
        live_again = int(live_at[live_at > end][0])
        tone = heard[end + 4800:live_again - 4800]
        self.assertAlmostEqual(sound.frequency_of(sound.mono(tone)), 440, delta=0.5)
        self.assertAlmostEqual(sound.frequency_of(mid[4800:first_live - 4800]), 440, delta=0.5)
        # What each programme does by itself, away from any seam, in what was heard.
        own_live = sound.largest_step(heard[first_live + 9600:begin - 9600])
        self.assertLess(own_live, 1.05 * sound.largest_step(chord), "the programme is undisturbed")
        own_tone = sound.largest_step(tone)
        self.assertLess(own_tone, own_live)
        self.assert_smooth("tone to live", heard[first_live - 4800:first_live + 9600], own_live)
        self.assert_smooth("live to grace", heard[begin - 9600:begin + 9600], own_live)
        self.assert_smooth("grace to tone", heard[end - 4800:end + 4800], own_tone)
        self.assert_smooth("tone to live again", heard[live_again - 4800:live_again + 9600],
                           own_live)

    @takes(12)
    def test_a_feeder_stopped_and_continued_costs_silence_only(self):
        """SIGSTOP: the connection stays, nothing comes; after SIGCONT the song goes on."""
        path = sound.write_wav(self.path("chord.wav"), chord_of(20))
        server = self.serve("--grace", "60")
        listener = Listener(server.port)
        feeder = self.feed(server, path)
        server.wait_origin("live")
        feeder.kill(signal.SIGSTOP)
        server.wait_origin("grace")
        feeder.kill(signal.SIGCONT)
        server.wait_origin("live")
        listener.wait_more_frames(20)
        sound.decode(listener.hang_up(), self.folder)
        feeder.kill(signal.SIGTERM)
        feeder.wait()
        self.stop(server)

    @takes(5)
    def test_the_first_frame_of_all_is_on_air_at_once(self):
        server = self.serve("--grace", "60")
        self.assertEqual(server.status()["origin"], "grace")
        listener = Listener(server.port)
        wait_until(lambda: len(listener.body) > 384 * 20, "silence is on air too")
        heard = sound.decode(listener.hang_up(), self.folder)
        self.assertLess(sound.rms_by_window(sound.mono(heard)).max(), 2)
        self.stop(server)
