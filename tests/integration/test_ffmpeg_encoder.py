"""--encoder ffmpeg: the child is killed, stopped, or cannot be started; the air goes on."""
import os
import signal

from harness import (TowerTestCase, children_of, open_descriptors, process_exists, takes,
                     wait_until)
from listening import Listener, frames_lost_to_clock
import sound


class TestFfmpegEncoder(TowerTestCase):
    def wait_restarted(self, server, old_pid):
        """Wait until another child is on air; returns the status."""
        return server.wait_status(
            lambda s: s["encoder"]["state"] == "on air" and s["encoder"]["child_pid"] not in
            (0, old_pid), "another ffmpeg is on air", 60)

    @takes(40)
    def test_killed_and_stopped_ffmpeg_costs_no_frame(self):
        music = sound.song(45, self.folder, seed=5)
        path = sound.write_wav(self.path("song.wav"), music)
        server = self.serve("--encoder", "ffmpeg", "--encoder-backoff-ms", "200,400")
        first = server.wait_encoder("on air")["encoder"]
        self.assertEqual(first["kind"], "ffmpeg")
        with open(f"/proc/{first['child_pid']}/comm", encoding="ascii") as comm:
            self.assertEqual(comm.read().strip(), "ffmpeg")
        listener = Listener(server.port)
        feeder = self.feed(server, path)
        server.wait_origin("live")
        listener.wait_more_frames(170)
        descriptors = open_descriptors(server.pid)
        spare_before = server.status()["encoder"]["frames_spare"]

        os.kill(first["child_pid"], signal.SIGKILL)
        second = self.wait_restarted(server, first["child_pid"])["encoder"]
        self.assertEqual(second["restarts"], first["restarts"] + 1)
        self.assertEqual(second["exits"], first["exits"] + 1)
        self.assertGreater(second["frames_spare"], spare_before, "LAME carried the air meanwhile")
        self.assertFalse(process_exists(first["child_pid"]))
        listener.wait_more_frames(100)

        os.kill(second["child_pid"], signal.SIGSTOP)
        third = self.wait_restarted(server, second["child_pid"])["encoder"]
        self.assertEqual(third["refusals"], second["refusals"] + 1)
        self.assertEqual(third["restarts"], second["restarts"] + 1)
        wait_until(lambda: not process_exists(second["child_pid"]), "the stopped ffmpeg is gone")
        wait_until(lambda: children_of(server.worker) == [third["child_pid"]], "no zombie is left")
        wait_until(lambda: open_descriptors(server.pid) <= descriptors + 1,
                   "no descriptor is left open")
        primary = third["frames_primary"]
        listener.wait_more_frames(100)
        status = server.status()
        self.assertGreater(status["encoder"]["frames_primary"], primary + 50, "ffmpeg is on air")

        mp3 = listener.hang_up()
        feeder.kill()
        feeder.wait()
        self.stop(server)
        self.assertFalse(process_exists(third["child_pid"]), "an ffmpeg was left behind")
        self.assertEqual(status["encoder"]["garbage"], 0)
        self.assertEqual(status["encoder"]["frames_repair"], 0)
        self.assertLess(abs(frames_lost_to_clock(listener.frame_times())), 1.5)
        heard = sound.decode(mp3, self.folder)
        self.judge(music, heard)

    def judge(self, music, heard):
        found = sound.follow(sound.mono(music), sound.mono(heard))
        # The recording ends before the song does: what is followed ends there too.
        start = found[0][1]
        there = [entry for entry in found
                 if start + (entry[0] + 0.2) * sound.RATE < len(heard)]
        self.assertGreater(len(there), 90, "9 s at least, in windows of 0.1 s")
        off = [(round(at, 1), lag - start) for at, lag, _ in there if abs(lag - start) > 2]
        self.assertEqual(off, [], "a frame was lost or came twice")
        poor = [(round(at, 1), round(fit, 3)) for at, _, fit in there if fit < 0.9]
        print(f"  {len(there)} windows, worst fit {min(fit for _, _, fit in there):.3f}, "
              f"{len(poor)} under 0.9: {poor}")
        # Where one encoder takes over from another, the overlap of two frames is not their own.
        self.assertLessEqual(len(poor), 8)
        self.assertGreater(min(fit for _, _, fit in there), 0.5)

    @takes(6)
    def test_ffmpeg_that_cannot_be_started_leaves_the_air_to_lame(self):
        server = self.serve("--encoder", "ffmpeg", "--ffmpeg", "/nonexistent/ffmpeg",
                            "--encoder-backoff-ms", "20,50", "--encoder-max-restarts", "2")
        status = server.wait_encoder("degraded")
        self.assertEqual(status["encoder"]["child_pid"], 0)
        self.assertEqual(status["encoder"]["frames_primary"], 0)
        listener = Listener(server.port)
        listener.wait_bytes(120 * 384)
        status = server.status()
        self.assertEqual(status["state"], "on air")
        self.assertEqual(server.get("/readyz")[0], 200)
        sound.decode(listener.hang_up(), self.folder)
        self.stop(server)
        self.assertIn("/nonexistent/ffmpeg", server.stderr(), "the log names what failed")
        self.assertIn("No such file", server.stderr(), "and why")

    @takes(10)
    def test_ffmpeg_that_dies_again_and_again_is_degraded(self):
        server = self.serve("--encoder", "ffmpeg", "--ffmpeg", "/bin/false",
                            "--encoder-backoff-ms", "20,50", "--encoder-max-restarts", "3")
        listener = Listener(server.port)
        status = server.wait_encoder("degraded")
        self.assertGreaterEqual(status["encoder"]["exits"], 3)
        listener.wait_more_frames(60)
        times = listener.frame_times()
        sound.decode(listener.hang_up(), self.folder)
        self.assertGreater(len(times), 60)
        self.stop(server)

    @takes(10)
    def test_stopping_is_clean_while_ffmpeg_hangs(self):
        server = self.serve("--encoder", "ffmpeg")
        child = server.wait_encoder("on air")["encoder"]["child_pid"]
        os.kill(child, signal.SIGSTOP)
        self.stop(server)
        wait_until(lambda: not process_exists(child), "the stopped ffmpeg is gone")

    @takes(8)
    def test_killing_the_transmitter_leaves_no_ffmpeg(self):
        server = self.serve("--encoder", "ffmpeg")
        child = server.wait_encoder("on air")["encoder"]["child_pid"]
        server.kill(signal.SIGKILL)
        server.wait()
        wait_until(lambda: not process_exists(child), "ffmpeg ended with the transmitter")
        # It is a child of this process now (see run), and is to be taken note of.
        wait_until(lambda: self.reap(child), "ffmpeg is reaped")

    @staticmethod
    def reap(pid):
        try:
            return os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            return True
