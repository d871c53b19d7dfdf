"""A minute on air: the music whole and in order, and the clock right."""
import math
import time

from harness import TowerTestCase, takes, wait_until
from listening import FRAME_SECONDS, Listener, frames_lost_to_clock, mp3_frames
import sound


class TestSong(TowerTestCase):
    @takes(72)
    def test_a_song_of_60_s_fed_unpaced_is_heard_whole(self):
        # Not a whole number of frames: the end must come too.
        music = sound.song(60 + 500 / sound.RATE, self.folder)
        path = sound.write_wav(self.path("song.wav"), music)
        server = self.serve()
        listener = Listener(server.port)
        listener.wait_bytes(1)
        feeder = self.feed(server, path)
        server.wait_origin("live")
        self.assertEqual(feeder.wait(90), 0, feeder.stderr())
        server.wait_status(lambda s: s["origin"] != "live", "the song is over")
        listener.wait_more_frames(20)
        status = server.status()
        mp3 = listener.hang_up()
        self.stop(server)
        frames = math.ceil(len(music) / 1152)
        self.assertEqual(status["frames_by_origin"]["live"], frames)
        self.assertEqual(status["router"]["overflow_count"], 0)
        self.assertEqual(status["router"]["popped_count"], frames)
        self.assertEqual(status["producers"]["partial_frames"], 0)
        heard = sound.decode(mp3, self.folder)
        lag, worst = sound.assert_same_music(music, heard)
        print(f"the song begins {lag} samples into the recording; worst fit {worst:.3f}")

    @takes(68)
    def test_60_s_hold_2500_frames(self):
        server = self.serve()
        listener = Listener(server.port)
        began = time.monotonic()
        wait_until(lambda: time.monotonic() > began + 65.5, "65 s have passed", 70, 0.5)
        status = server.status()
        listener.hang_up()
        self.stop(server)
        times = listener.frame_times()
        lost = frames_lost_to_clock(times) * 60 / (times[-1] - times[0])
        print(f"frames in 60 s: {2500 - lost:.3f}")
        self.assertLessEqual(abs(lost), 1)
        # And as the transmitter itself counts: what went on air since it started.
        due = status["uptime_seconds"] / FRAME_SECONDS
        self.assertLessEqual(abs(status["air"]["frames"] - due), 8, status)
        self.assertEqual(status["ticks"]["skipped"], 0)
        self.assertEqual(status["ticks"]["write_errors"], 0)
        # The burst, then one frame at each tick: no frame twice, none missing in the bytes.
        self.assertEqual(len(mp3_frames(listener.body)[0]), len(times))
        sound.decode_ffmpeg(listener.whole_frames())
