"""`tower feed`: every kind of source, into a real transmitter and out of its stream."""
import os
import pty
import signal
import subprocess

from harness import TOWER, TowerTestCase, takes, wait_until
from listening import Listener
import sound


class TestFeed(TowerTestCase):
    def heard_while_live(self, server, frames=70):
        """What a listener who comes now hears of the live programme, as mono samples."""
        listener = Listener(server.port)
        listener.wait_bytes(1)
        listener.wait_more_frames(frames + 85)
        heard = sound.mono(sound.decode(listener.hang_up(), self.folder))
        # The end of it: the burst at the beginning is from before.
        return heard[-(frames - 5) * 1152:]

    def end_feeder(self, feeder):
        feeder.kill(signal.SIGTERM)
        feeder.wait()

    @takes(7)
    def test_mock_is_live_silence(self):
        # A machine with other work is late by more than two frames now and then.
        server = self.serve("--grace", "0", "--cushion-frames", "12")
        feeder = self.feed(server, "mock")
        server.wait_origin("live")
        heard = self.heard_while_live(server)
        self.assertLess(sound.rms_by_window(heard).max(), 2)
        status = server.status()
        self.assertEqual(status["origin"], "live")
        self.assertTrue(feeder.runs())
        self.end_feeder(feeder)
        self.stop(server)

    @takes(7)
    def test_mock_noise_is_live_noise(self):
        server = self.serve("--grace", "0")
        feeder = self.feed(server, "mock:noise")
        server.wait_origin("live")
        heard = self.heard_while_live(server)
        self.assertGreater(sound.rms_by_window(heard).min(), 100)
        self.end_feeder(feeder)
        self.stop(server)

    @takes(10)
    def test_mock_tone_is_live_and_real_time(self):
        server = self.serve("--grace", "0", "--tone-frequency", "1000")
        feeder = self.feed(server, "mock:tone")
        server.wait_origin("live")
        heard = self.heard_while_live(server)
        self.assertAlmostEqual(sound.frequency_of(heard), 440, delta=1)
        # Real-time: the queue is not filled up, as by a file, and does not run dry either.
        status = server.status()
        self.assertLess(status["router"]["count"], 50)
        self.end_feeder(feeder)
        self.stop(server)

    @takes(8)
    def test_a_file_of_another_rate_is_heard_as_it_is(self):
        """44.1 kHz mono FLAC; a wrong rate would be another pitch and length."""
        path = sound.convert(
            sound.write_wav(self.path("a.wav"), sound.stereo(sound.tone([1000], 4))),
            self.path("a.flac"), "-ar", "44100", "-ac", "1")
        server = self.serve("--grace", "0", "--tone-frequency", "0")
        feeder = self.feed(server, f"file:{path}")
        server.wait_origin("live")
        heard = self.heard_while_live(server, 60)
        self.assertAlmostEqual(sound.frequency_of(heard[:48000]), 1000, delta=1)
        self.assertEqual(feeder.wait(), 0, feeder.stderr())
        status = server.wait_origin("silence")
        self.assertAlmostEqual(status["frames_by_origin"]["live"], 4 / 0.024, delta=1.5)
        self.stop(server)

    @takes(8)
    def test_a_file_for_ffmpeg_alone(self):
        path = sound.convert(
            sound.write_wav(self.path("a.wav"), sound.stereo(sound.tone([1000], 3))),
            self.path("a.m4a"), "-c:a", "aac")
        server = self.serve("--grace", "0", "--tone-frequency", "0")
        feeder = self.feed(server, path)
        self.assertEqual(feeder.wait(), 0, feeder.stderr())
        listener = Listener(server.port)
        status = server.wait_origin("silence")
        self.assertAlmostEqual(status["frames_by_origin"]["live"], 125, delta=3)
        heard = sound.mono(sound.decode(listener.hang_up(), self.folder))
        loud = heard[abs(heard) > 1000]
        self.assertGreater(len(loud), 48000)
        begin = int(abs(heard).argmax())
        begin = min(begin, len(heard) - 24000)
        self.assertGreater(sound.strength_of(heard[begin - 4800:begin + 4800], 1000), 8000)
        self.stop(server)

    @takes(8)
    def test_raw_pcm_on_stdin_with_rate_and_channels(self):
        raw = subprocess.run(
            ["sox", "-n", "-r", "44100", "-c", "1", "-b", "16", "-e", "signed", "-t", "raw", "-",
             "synth", "4", "sine", "1000", "gain", "-6"], check=True, capture_output=True).stdout
        with open(self.path("in.raw"), "wb") as file:
            file.write(raw)
        server = self.serve("--grace", "0", "--tone-frequency", "0")
        with open(self.path("in.raw"), "rb") as file:
            feeder = self.feed(server, "-", "--rate", "44100", "--channels", "1", stdin=file)
        server.wait_origin("live")
        heard = self.heard_while_live(server, 60)
        self.assertAlmostEqual(sound.frequency_of(heard[:48000]), 1000, delta=1)
        self.assertEqual(feeder.wait(), 0, feeder.stderr())
        status = server.wait_origin("silence")
        self.assertAlmostEqual(status["frames_by_origin"]["live"], 4 / 0.024, delta=1.5)
        self.stop(server)

    @takes(6)
    def test_raw_pcm_in_the_transmitters_format_needs_no_flags(self):
        music = sound.song(3.0, self.folder)
        with open(self.path("in.raw"), "wb") as file:
            file.write(music.tobytes())
        server = self.serve()
        listener = Listener(server.port)
        with open(self.path("in.raw"), "rb") as file:
            feeder = self.feed(server, "-", "--rate", "48000", "--channels", "2", stdin=file)
        self.assertEqual(feeder.wait(), 0, feeder.stderr())
        server.wait_status(lambda s: s["frames_by_origin"]["live"] == 125, "all was on air")
        listener.wait_more_frames(15)
        sound.assert_same_music(music, sound.decode(listener.hang_up(), self.folder))
        self.stop(server)

    def test_wrong_use(self):
        missing = self.tower("feed", self.path("none.wav"), "--socket", self.path("no.sock"))
        self.assertEqual(missing.code, 1)
        self.assertIn("none.wav", missing.stderr())
        self.assertRegex(missing.stderr(), "(?i)no such file")
        with open(self.path("text.wav"), "w", encoding="utf-8") as file:
            file.write("this is no audio\n" * 100)
        undecodable = self.tower("feed", self.path("text.wav"), "--socket", self.path("no.sock"))
        self.assertEqual(undecodable.code, 1)
        self.assertIn("text.wav", undecodable.stderr())
        for words in ([], ["mock:violin"], ["--speed", "2", "mock"], ["-", "--rate", "fast"],
                      ["-", "--channels", "0"], ["mock", "mock"]):
            program = self.tower("feed", *words)
            self.assertEqual(program.code, 2, (words, program.stderr()))
            self.assertTrue(program.stderr())

    @takes(8)
    def test_loop_goes_on_without_a_seam(self):
        path = sound.write_wav(self.path("loop.wav"), sound.stereo(sound.tone([500], 1.2, 0.3)))
        server = self.serve("--grace", "1")
        feeder = self.feed(server, path, "--loop")
        server.wait_origin("live")
        before = server.status()["frames_by_origin"]["live"]
        server.wait_status(lambda s: s["frames_by_origin"]["live"] > before + 100,
                           "it was played twice")
        heard = self.heard_while_live(server, 120)
        self.assertTrue(feeder.runs())
        own = sound.largest_step(sound.stereo(sound.tone([500], 1.2, 0.3)))
        self.assertLessEqual(abs(heard[1:] - heard[:-1]).max(), 1.05 * own + 8)
        self.end_feeder(feeder)
        self.stop(server)

    @takes(15)
    def test_reconnects_when_the_transmitter_comes_back(self):
        path = self.path("pcm.sock")
        first = self.serve("--socket", path, "--grace", "0")
        feeder = self.feed(first, "mock:tone")
        first.wait_origin("live")
        self.stop(first)
        second = self.serve("--socket", path, "--grace", "0")
        second.wait_origin("live", 60)
        self.assertTrue(feeder.runs())
        second.kill()
        second.wait()
        third = self.serve("--socket", path, "--grace", "0")
        third.wait_origin("live", 60)
        self.end_feeder(feeder)
        self.stop(third)

    @takes(10)
    def test_waits_for_a_transmitter_that_is_not_there_yet(self):
        path = self.path("pcm.sock")
        feeder = self.start(TOWER, "feed", "mock:tone", "--socket", path, name="feed")
        wait_until(lambda: feeder.stderr(), "it says that it waits")
        server = self.serve("--socket", path, "--grace", "0")
        server.wait_origin("live", 60)
        self.end_feeder(feeder)
        self.stop(server)

    @takes(6)
    def test_ends_at_once_on_ctrl_c(self):
        server = self.serve()
        feeder = self.feed(server, "mock:noise")
        server.wait_origin("live")
        feeder.kill(signal.SIGINT)
        feeder.wait(10)
        server.wait_status(lambda s: s["producers"]["connected"] == 0, "its connection is closed")
        # And while it has nobody to talk to.
        lonely = self.start(TOWER, "feed", "mock", "--socket", self.path("none.sock"), name="feed")
        wait_until(lambda: lonely.stderr(), "it says that it waits")
        lonely.kill(signal.SIGINT)
        lonely.wait(10)
        self.stop(server)

    @takes(6)
    def test_one_line_on_a_terminal(self):
        server = self.serve()
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        feeder = subprocess.Popen([TOWER, "feed", "mock:tone", "--socket", server.socket_path],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=slave)
        self.addCleanup(feeder.wait)
        self.addCleanup(feeder.kill)
        os.close(slave)
        shown = b""
        while shown.count(b"\r") < 3:
            shown += os.read(master, 4096)
        self.assertIn(b"dB", shown, "the level")
        self.assertRegex(shown, rb"\d", "the position")
        feeder.terminate()
        feeder.wait(10)
        self.stop(server)
