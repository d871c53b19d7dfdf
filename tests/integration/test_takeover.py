"""A playlist is on air, a live producer comes and goes: what is heard goes on without a hole or a
click, and the playlist exactly where it was. With real `tower feed` processes."""
import os
import signal
import threading
import urllib.request

import numpy

from harness import TowerTestCase, takes, wait_until
from listening import Listener
import sound

FRAME = 1152
RATE = 48000


def chirp(seconds, low, high, peak):
    """A sine that rises, so that every moment of it is another; as 16-bit numbers."""
    at = numpy.arange(round(seconds * RATE)) / RATE
    phase = 2 * numpy.pi * (low * at + (high - low) * at * at / (2 * seconds))
    return numpy.round(32767 * peak * numpy.sin(phase)).astype(numpy.int16)


def left_of(samples):
    return numpy.stack([samples, numpy.zeros_like(samples)], axis=1)


def right_of(samples):
    return numpy.stack([numpy.zeros_like(samples), samples], axis=1)


class Tap(threading.Thread):
    """What is on air, bit for bit."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.answer = urllib.request.urlopen(
            f"http://127.0.0.1:{server.port}/pcm?rate=48000&channels=2&samples=1152", timeout=30)
        self.body = bytearray()
        self.is_over = False
        self.start()

    def run(self):
        while not self.is_over:
            piece = self.answer.read(FRAME * 4)
            if not piece:
                break
            self.body += piece

    def end(self):
        self.is_over = True
        self.join(10)
        self.answer.close()
        return numpy.frombuffer(bytes(self.body[:len(self.body) // 4 * 4]), "<i2").reshape(-1, 2)


class TestTakeover(TowerTestCase):
    def setUp(self):
        super().setUp()
        # Peaks of 0.3: the sum of both is far from full scale.
        self.playlist = chirp(60, 200, 1000, 0.3)
        self.live = chirp(20, 300, 900, 0.3)
        os.mkdir(self.path("list"))
        sound.write_wav(self.path("list/1.wav"), left_of(self.playlist))

    def feed_playlist(self, server):
        feeder = self.feed(server, self.path("list"), "--loudness", "off",
                           environment={"XDG_CACHE_HOME": self.path("cache")})
        server.wait_origin("live")
        return feeder

    def feed_live(self, server, seconds):
        path = sound.write_wav(self.path("live.wav"), right_of(self.live[:round(seconds * RATE)]))
        return self.feed(server, path, "--name", "live")

    def wait_on_log(self, server, text):
        wait_until(lambda: text in server.stderr(), f"the log says {text!r}")

    @takes(25)
    def test_a_live_one_comes_and_goes_and_the_list_goes_on_where_it_was(self):
        server = self.serve("--grace", "0", "--tone-frequency", "0", "--settle", "0")
        listener = Listener(server.port)
        self.feed_playlist(server)
        tap = Tap(server)
        server.wait_status(lambda s: s["frames_by_origin"]["live"] > 150, "the list is on air")
        live = self.feed_live(server, 2)
        self.wait_on_log(server, "live) is on air")
        self.assertEqual(live.wait(), 0, live.stderr())
        wait_until(lambda: server.stderr().count("playlist) is on air") == 2, "it is back")
        listener.wait_more_frames(120)
        heard = tap.end().astype(int)
        mp3 = listener.hang_up()
        self.stop(server)

        left, right = heard[:, 0], heard[:, 1]
        fade = 9 * FRAME  # 200 ms, up to whole frames
        place, fit = sound.correlate(left[4800:14400].astype(float), self.playlist.astype(float))
        self.assertGreater(fit, 0.99999)
        before = 4800 - place  # the list's sample n is heard at n + before
        # The live one's first sample that is not nothing lies in the first frame of the fade.
        begin = numpy.flatnonzero(right)[0]
        begin -= (begin - before) % FRAME
        numpy.testing.assert_array_equal(left[4800:begin],
                                         self.playlist[4800 - before:begin - before])
        angle = numpy.pi / 2 * numpy.arange(fade) / fade
        gone = self.playlist[begin - before:][:fade]
        self.assertLessEqual(abs(left[begin:begin + fade] - numpy.cos(angle) * gone).max(), 1)
        self.assertLessEqual(abs(right[begin:begin + fade] -
                                 numpy.sin(angle) * self.live[:fade]).max(), 1)
        alone = begin + fade
        numpy.testing.assert_array_equal(right[alone:alone + RATE], self.live[fade:fade + RATE])

        # Back, from the sample on that was next.
        next_sample = begin - before + fade
        place, fit = sound.correlate(left[-24000:].astype(float), self.playlist.astype(float))
        self.assertGreater(fit, 0.99999)
        after = len(left) - 24000 - place
        differs = numpy.flatnonzero(left[after + next_sample + FRAME:] !=
                                    self.playlist[next_sample + FRAME:len(left) - after])
        whole = next_sample + FRAME + differs[-1] + 1
        self.assertLessEqual(abs(whole - (next_sample + fade)), 300, "it is faded in")
        back = after + next_sample
        expected = numpy.sin(angle) * self.playlist[next_sample:next_sample + fade]
        self.assertLessEqual(abs(left[back + 480:back + fade] - expected[480:]).max(), 1)
        self.assertEqual(abs(left[alone:back]).max(), 0)
        # What lies between is the live one, padded to a whole frame, and no frame of silence more
        # than the machine was late.
        self.assertGreaterEqual(back - begin, -(-2 * RATE // FRAME) * FRAME)
        self.assertLessEqual(back - begin, (-(-2 * RATE // FRAME) + 20) * FRAME)

        # As listeners hear it: no step that the two programmes together do not make.
        steps = 2 * numpy.pi * (1000 + 900) / RATE * 32767 * 0.3
        decoded = sound.mono(sound.decode(mp3, self.folder))
        self.assertLess(sound.largest_step(decoded), steps)

    @takes(40)
    def test_workers_killed_in_a_fade_lose_no_sample_of_either(self):
        server = self.serve("--grace", "0", "--tone-frequency", "0", "--settle", "0", "--fade-ms",
                            "5000", environment={"ASAN_OPTIONS": "handle_segv=0"})
        listener = Listener(server.port)
        self.feed_playlist(server)
        server.wait_status(lambda s: s["frames_by_origin"]["live"] > 150, "the list is on air")
        self.feed_live(server, 15)
        self.wait_on_log(server, "live) is on air")
        for _ in range(3):
            worker = server.worker
            listener.wait_more_frames(30)
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda w=worker: server.worker not in (None, w), "there is another worker")
            wait_until(lambda: server.get("/readyz")[0] == 200, "it is on air")
        listener.wait_more_frames(330)
        heard = sound.decode(listener.hang_up(), self.folder).astype(float)
        self.stop(server)
        self.judge_fade(heard)

    def judge_fade(self, heard):
        """Each is at its own pace from its first sample on, through all of the fade."""
        loud = numpy.flatnonzero(abs(heard[:, 1]) > 300)[0]
        start = loud - 2 * RATE
        place, fit = sound.correlate(heard[start:start + RATE, 0], self.playlist.astype(float))
        self.assertGreater(fit, 0.99)
        # The last half second of the fade has too little left of the one, the first of the other.
        list_found = sound.follow(self.playlist[place:place + round(6.4 * RATE)].astype(float),
                                  heard[start:, 0])
        live_found = sound.follow(self.live[RATE // 2:6 * RATE].astype(float), heard[loud:, 1])
        for found in (list_found, live_found):
            lags = [lag for _, lag, fit in found if fit > 0.9]
            self.assertGreater(len(lags), 0.9 * len(found), found)
            self.assertLessEqual(max(lags) - min(lags), 3, found)
