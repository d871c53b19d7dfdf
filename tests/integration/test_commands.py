"""The other subcommands: aircheck, status, --version, --help, and wrong use of them."""
import json
import re
import signal
import socket
import subprocess

from harness import TOWER, TowerTestCase, takes
import sound


class TestAircheck(TowerTestCase):
    @takes(10)
    def test_a_good_stream(self):
        server = self.serve("--grace", "0")
        server.wait_status(lambda s: s["frames_by_origin"]["tone"] > 100, "the burst is all tone")
        check = self.tower("aircheck", server.url, "--seconds", "5", "--json", seconds=60)
        self.assertEqual(check.code, 0, check.stdout() + check.stderr())
        report = json.loads(check.stdout())
        print(json.dumps(report, indent=1))
        self.assertTrue(report["good"])
        self.assertEqual(report["faults"], [])
        self.assertEqual(report["rate_hz"], 48000)
        self.assertEqual(report["channels"], 2)
        self.assertEqual(report["bitrate_bps"], 128000)
        self.assertEqual(report["lost_syncs"], 0)
        self.assertEqual(report["decoder_errors"], 0)
        self.assertEqual(report["reservoir_frames"], 0)
        self.assertAlmostEqual(report["mp3_frames"], (5 + 2) / 0.024, delta=40)
        self.assertAlmostEqual(report["bytes"], report["mp3_frames"] * 384, delta=384)
        # The default tone: 440 Hz at a peak of -18 dBFS; LAME takes up to 0.5 dB off by itself.
        for peak in report["peak_dbfs"]:
            self.assertAlmostEqual(peak, -18.2, delta=0.4)
        for rms in report["rms_dbfs"]:
            self.assertAlmostEqual(rms, -21.2, delta=0.4)
        self.assertAlmostEqual(report["largest_step"], 4125 * 0.0576, delta=20)
        self.assertEqual(report["silences"], 0)
        self.stop(server)

    @takes(8)
    def test_for_a_person(self):
        server = self.serve()
        check = self.tower("aircheck", server.url, "--seconds", "2", seconds=60)
        self.assertEqual(check.code, 0, check.stdout() + check.stderr())
        for word in ("frames", "clock", "gap", "decoder", "silence", "step"):
            self.assertIn(word, check.stdout())
        self.stop(server)

    @takes(8)
    def test_a_stream_that_is_killed(self):
        server = self.serve()
        check = self.start(TOWER, "aircheck", server.url, "--seconds", "60", "--json",
                           name="aircheck")
        server.wait_status(lambda s: s["listeners"]["current"] == 1, "it listens")
        server.kill(signal.SIGKILL)
        self.assertEqual(check.wait(30), 1, check.stdout() + check.stderr())
        self.assertFalse(json.loads(check.stdout())["good"])

    @takes(10)
    def test_a_stream_that_stands_still_is_a_fault(self):
        server = self.serve()
        check = self.start(TOWER, "aircheck", server.url, "--seconds", "3", "--max-gap-ms", "500",
                           "--json", name="aircheck")
        # Before there is anything there is no gap in it.
        server.wait_status(lambda s: s["listeners"]["sent_bytes"] > 0, "it listens")
        server.kill(signal.SIGSTOP)
        self.assertEqual(check.wait(60), 1, check.stdout() + check.stderr())
        report = json.loads(check.stdout())
        self.assertGreater(report["longest_gap_ms"], 500)
        server.kill(signal.SIGCONT)
        self.stop(server)

    def test_no_stream_at_all(self):
        server = self.serve()
        wrong_path = self.tower("aircheck", server.url + "x", "--seconds", "1")
        self.assertEqual(wrong_path.code, 1)
        self.assertIn("404", wrong_path.stderr())
        self.stop(server)
        nobody = self.tower("aircheck", server.url, "--seconds", "1")
        self.assertEqual(nobody.code, 1)
        self.assertTrue(nobody.stderr())

    def test_ctrl_c_before_an_answer_came(self):
        with socket.create_server(("127.0.0.1", 0)) as mute:
            check = self.start(TOWER, "aircheck", f"http://127.0.0.1:{mute.getsockname()[1]}/",
                               name="aircheck")
            asked = mute.accept()[0]
            asked.recv(1)
            check.kill(signal.SIGINT)
            # Far less than the 10 s that it would have waited.
            self.assertEqual(check.wait(8), 1)
            asked.close()
        self.assertEqual(check.stderr(), "tower aircheck: stopped before an answer came\n")

    def test_wrong_use(self):
        for words, given in ((["--seconds", "ten"], "ten"), (["--volume", "11"], "--volume"),
                             (["http://a/", "http://b/"], "http://b/"), (["ftp://a/"], "ftp://a/"),
                             (["--seconds"], "--seconds"), (["station"], "station")):
            program = self.tower("aircheck", *words)
            self.assertEqual(program.code, 2, words)
            self.assertEqual(program.stderr().count("\n"), 1, program.stderr())
            self.assertIn(given, program.stderr())


class TestStatusCommand(TowerTestCase):
    @takes(8)
    def test_a_running_transmitter(self):
        server = self.serve("--grace", "0")
        server.wait_origin("tone")
        base = f"http://127.0.0.1:{server.port}"
        plain = self.tower("status", base)
        self.assertEqual(plain.code, 0, plain.stderr())
        for word in ("on air", "tone", "lame"):
            self.assertIn(word, plain.stdout())
        as_json = self.tower("status", base, "--json")
        self.assertEqual(as_json.code, 0, as_json.stderr())
        self.assertEqual(json.loads(as_json.stdout())["origin"], "tone")
        self.stop(server)
        gone = self.tower("status", base)
        self.assertEqual(gone.code, 1)
        self.assertIn(str(server.port), gone.stderr())

    def test_wrong_use(self):
        for words in (["--jsn"], ["http://a/", "http://b/"]):
            self.assertEqual(self.tower("status", *words).code, 2, words)


class TestCommandLine(TowerTestCase):
    def test_version(self):
        program = self.tower("--version")
        self.assertEqual(program.code, 0)
        self.assertRegex(program.stdout(), r"^tower \d+\.\d+\.\d+\n$")

    def test_help(self):
        program = self.tower("--help")
        self.assertEqual(program.code, 0)
        for command in ("serve", "feed", "check", "aircheck", "status"):
            self.assertIn(command, program.stdout())
            one = self.tower(command, "--help")
            self.assertEqual(one.code, 0, command)
            self.assertRegex(one.stdout(), re.compile(rf"usage: \S*tower {command}", re.I))
            self.assertEqual(one.stderr(), "", command)

    def test_wrong_use(self):
        unknown = self.tower("transmit")
        self.assertEqual(unknown.code, 2)
        self.assertIn("transmit", unknown.stderr())
        self.assertEqual(unknown.stdout(), "")
        self.assertEqual(self.tower().code, 2)
        self.assertEqual(self.tower("--loud").code, 2)
        self.assertEqual(self.tower("serve", "now").code, 2)

    @takes(8)
    def test_a_full_disk_is_told(self):
        server = self.serve()
        base = server.url.removesuffix("/stream")
        for words in (["check"], ["feed", "--help"], ["status", base], ["status", base, "--json"],
                      ["aircheck", server.url, "--seconds", "0.5"],
                      ["aircheck", server.url, "--seconds", "0.5", "--json"]):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([TOWER, *words], stdout=full, stderr=subprocess.PIPE,
                                      timeout=30, check=False)
            self.assertEqual(done.returncode, 1, words)
            self.assertRegex(done.stderr.decode(), r"^tower: writing to stdout: [^\n]+\n$", words)
        self.stop(server)


class TestEveryBitrate(TowerTestCase):
    @takes(20)
    def test_the_stream_is_good_at_each(self):
        for bitrate in ("32k", "64k", "192k", "320k"):
            server = self.serve("--bitrate", bitrate, "--grace", "0", "--encoder", "lame")
            server.wait_status(lambda s: s["air"]["frames"] > 90, "two seconds were on air")
            path = self.path(f"{bitrate}.mp3")
            check = self.tower("aircheck", server.url, "--seconds", "0.7", "--json", "--save", path,
                               seconds=60)
            self.assertEqual(check.code, 0, check.stdout() + check.stderr())
            self.assertEqual(json.loads(check.stdout())["bitrate_bps"], int(bitrate[:-1]) * 1000)
            with open(path, "rb") as file:
                heard = sound.mono(sound.decode_ffmpeg(file.read()))
            self.assertAlmostEqual(sound.frequency_of(heard[-48000:]), 440, delta=1)
            self.stop(server)
