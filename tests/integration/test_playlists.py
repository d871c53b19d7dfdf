"""`tower feed` with playlists: real files of many formats, into a real transmitter, and what is
heard."""
import os
import pty
import signal
import subprocess

from harness import TOWER, TowerTestCase, takes, wait_until
from listening import Listener
import sound


class TestPlaylists(TowerTestCase):
    def setUp(self):
        super().setUp()
        # What is kept of loudness is kept here.
        self.cache = {"XDG_CACHE_HOME": self.path("cache")}

    def feed_list(self, server, *words):
        return self.feed(server, *words, environment=self.cache)

    def count_measured(self):
        try:
            with open(self.path("cache/tower/loudness"), encoding="utf-8") as file:
                return len(file.readlines())
        except FileNotFoundError:
            return 0

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    @takes(15)
    def test_three_formats_are_one_programme(self):
        """A sine split over files of three formats: heard without a step, a gap or a repeat."""
        whole = sound.stereo(sound.tone([500], 6, 0.3))
        for number, kind, words in ((1, "wav", ()), (2, "flac", ("-ar", "44100", "-ac", "1")),
                                    (3, "wav", ("-ar", "32000"))):
            part = sound.write_wav(self.path(f"part{number}.wav"),
                                   whole[(number - 1) * 96000:number * 96000])
            sound.convert(part, self.path(f"{number}.{kind}"), *words)
        path = self.write("list.m3u", "1.wav\nnone.mp3\n2.flac\n3.wav\n")
        server = self.serve("--grace", "0", "--tone-frequency", "0")
        listener = Listener(server.port)
        feeder = self.feed_list(server, path, "--loudness", "off")
        self.assertEqual(feeder.wait(), 0, feeder.stderr())
        self.assertRegex(feeder.stderr(), "none.mp3: skipped: .*no such file")
        self.assertEqual(len(feeder.stderr().splitlines()), 1, feeder.stderr())
        server.wait_status(lambda s: s["frames_by_origin"]["live"] == 250, "all was on air")
        listener.wait_more_frames(15)
        heard = sound.mono(sound.decode(listener.hang_up(), self.folder))
        loud = [at for at in range(0, len(heard) - 480, 480) if abs(heard[at:at + 480]).max() > 3000]
        programme = heard[loud[0] + 480:loud[-1]]
        self.assertAlmostEqual(len(programme) / 48000, 6, delta=0.1)
        # No sine of 500 Hz and 0.3 is steeper than 643 from sample to sample, MP3 adds a little.
        self.assertLess(sound.largest_step(programme), 900)
        self.assertGreater(sound.rms_by_window(programme).min(), 6000)
        self.stop(server)

    @takes(22)
    def test_a_folder_of_loud_and_quiet_files_is_as_loud_throughout(self):
        os.mkdir(self.path("songs"))
        for number, peak in ((1, 0.5), (2, 0.02), (10, 0.9)):
            sound.write_wav(self.path(f"songs/{number}.wav"),
                            sound.stereo(sound.tone([1000], 4, peak)))
        server = self.serve("--grace", "0", "--tone-frequency", "0")
        # Once to measure, so that it does not depend on how quick the machine is.
        first = self.feed_list(server, self.path("songs"), "--loop")
        wait_until(lambda: self.count_measured() == 3, "all files were measured", 60)
        first.kill(signal.SIGTERM)
        self.assertEqual(first.wait(), 0)
        server.wait_origin("silence")
        listener = Listener(server.port)
        feeder = self.feed_list(server, self.path("songs"))
        self.assertEqual(feeder.wait(), 0, feeder.stderr())
        self.assertEqual(feeder.stderr(), "")
        server.wait_origin("silence")
        heard = sound.mono(sound.decode(listener.hang_up(), self.folder))[-int(48000 * 12):]
        # -16 LUFS of a sine on both sides is one of that level in dBFS (EBU Tech 3341).
        levels = sound.rms_by_window(heard, 0.5)
        wanted = 32768 * 10 ** (-16 / 20) / 2 ** 0.5
        steady = [level for level in levels if level > 100]
        self.assertGreater(len(steady), 18)
        off = [level for level in steady if not 0.9 < level / wanted < 1.1]
        self.assertLessEqual(len(off), 2, (levels, wanted))  # the windows at the ends
        self.stop(server)

    @takes(8)
    def test_aircheck_and_titles_of_a_shuffled_list(self):
        text = "[playlist]\n"
        for number in range(1, 7):
            sound.write_wav(self.path(f"{number}.wav"),
                            sound.stereo(sound.tone([300 + 50 * number], 0.7, 0.3)))
            kind = "m4a" if number % 2 else "wav"  # which ffmpeg decodes, and libsndfile
            if kind == "m4a":
                sound.convert(self.path(f"{number}.wav"), self.path(f"{number}.m4a"))
            text += f"File{number}={number}.{kind}\nTitle{number}=Song {number}\n"
        path = self.write("list.pls", text)
        server = self.serve("--grace", "0")
        feeder = self.feed_list(server, path, "--loop", "--shuffle", "--seed", "5", "--crossfade",
                                "0.1")
        server.wait_origin("live")
        check = self.tower("aircheck", server.url, "--seconds", "4", seconds=60)
        self.assertEqual(check.code, 0, check.stdout() + check.stderr())
        # On a machine with other work there may be none at the moment, if the feeder is late.
        server.wait_status(lambda s: "Song" in s["title"]["text"], "there is a title")
        feeder.kill(signal.SIGTERM)
        self.assertEqual(feeder.wait(), 0, feeder.stderr())
        self.stop(server)

    @takes(3)
    def test_a_terminal_shows_which_file_of_how_many(self):
        for number in (1, 2):
            sound.write_wav(self.path(f"{number}.wav"), sound.stereo(sound.tone([500], 2, 0.3)))
        path = self.write("list.m3u", "#EXTINF:2,The first\n1.wav\n#EXTINF:2,The second\n2.wav\n")
        server = self.serve()
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        feeder = subprocess.Popen([TOWER, "feed", path, "--socket", server.socket_path],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=slave, env=dict(os.environ, **self.cache))
        self.addCleanup(feeder.wait)
        self.addCleanup(feeder.kill)
        os.close(slave)
        shown = b""
        while b"The second" not in shown:
            shown += os.read(master, 4096)
        self.assertRegex(shown, rb"file 1 of 2  0:0\d / 0:02  \[[#.]+\] +-[\d.]+ dBFS  The first  ")
        self.assertRegex(shown, rb"file 2 of 2 ")
        feeder.terminate()
        self.assertEqual(feeder.wait(10), 1)
        self.stop(server)

    def test_wrong_use(self):
        for words in (["mock", "--shuffle"], ["-", "--crossfade", "1"], ["a.m3u", "--seed", "1"],
                      ["a.m3u", "--crossfade", "31"], ["a.m3u", "--crossfade", "nan"],
                      ["a.m3u", "--loudness", "loud"], ["a.m3u", "--loudness", "0"],
                      ["a.m3u", "--rate", "48000"], ["mock", "--loudness", "-16"]):
            program = self.tower("feed", *words)
            self.assertEqual(program.code, 2, (words, program.stderr()))
            self.assertEqual(len(program.stderr().splitlines()), 1)
        nothing = self.write("none.m3u", "gone.mp3\nlost.mp3\n")
        socket = self.path("no.sock")
        program = self.tower("feed", nothing, "--loop", "--socket", socket, environment=self.cache)
        self.assertEqual(program.code, 1, program.stderr())
        self.assertRegex(program.stderr(), r"(?s)gone\.mp3: skipped: .*\n.*lost\.mp3: skipped: .*\n"
                                           r".*none of its 2 files can be read")
        program = self.tower("feed", self.write("x.xspf", "<playlist>"), "--socket", socket)
        self.assertEqual(program.code, 1)
        self.assertIn("x.xspf", program.stderr())
