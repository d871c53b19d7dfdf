"""Settings: what is wrong is said in one line and nothing starts; flags > environment > file."""
import os
import re
import socket

from harness import RawProducer, TowerTestCase
import sound


class TestWrongSettings(TowerTestCase):
    def refused(self, *flags, environment=None, has=()):
        """`tower serve flags` ends with 2 and one line that has all the words of `has`."""
        socket_path = self.path("never.sock")
        words = ["--port", "0"] if "--port" not in flags else []
        words += ["--socket", socket_path] if "--socket" not in flags else []
        program = self.tower("serve", *words, *flags, environment=environment)
        said = program.stderr().strip()
        print(f"  {said}")
        self.assertEqual(program.code, 2, said)
        self.assertEqual(len(said.splitlines()), 1, "one line")
        for word in has:
            self.assertIn(str(word), said)
        self.assertEqual(program.stdout(), "", "no banner")
        self.assertFalse(os.path.exists(socket_path), "nothing was started")
        return said

    def ini(self, text):
        with open(self.path("station.ini"), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path("station.ini")

    def test_unknown_key_in_the_file(self):
        path = self.ini("[tower]\nbitrate = 96k\nprot = 8005\n")
        self.refused("--config", path, has=["station.ini:3", "prot", "port"])

    def test_bad_number_in_the_file(self):
        path = self.ini("# a comment\n\ngrace = soon\n")
        self.refused("--config", path, has=["station.ini:3", "grace", "soon", "expected"])

    def test_number_out_of_range_in_the_file(self):
        path = self.ini("port = 70000\n")
        self.refused("--config", path, has=["station.ini:1", "70000", "65535"])

    def test_bad_flag_values(self):
        self.refused("--port", "eighty", has=["--port", "eighty", "expected"])
        self.refused("--bitrate", "129k", has=["--bitrate", "129k", "expected"])
        self.refused("--encoder", "opus", has=["--encoder", "opus", "lame", "ffmpeg"])
        self.refused("--grace", "-1", has=["--grace", "-1", "expected"])
        self.refused("--buffer-frames", "1e3", has=["--buffer-frames", "1e3"])

    def test_unknown_flag(self):
        self.refused("--prot", "8005", has=["--prot", "--port"])

    def test_bad_environment(self):
        self.refused(environment={"TOWER_PCM_GRACE_SEC": "five"},
                     has=["TOWER_PCM_GRACE_SEC", "five", "expected"])

    def test_missing_config_file(self):
        self.refused("--config", self.path("none.ini"), has=["none.ini", "No such file"])

    def test_missing_fallback_file(self):
        self.refused("--fallback", self.path("none.mp3"), has=["--fallback", "none.mp3",
                                                               "No such file"])

    def test_port_in_use(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            self.refused("--port", str(port), has=[port, "in use", "--port"])

    def test_socket_path_that_cannot_be_made(self):
        with open(self.path("file"), "w", encoding="utf-8"):
            pass
        self.refused("--socket", self.path("file/pcm.sock"), has=["file/pcm.sock", "--socket"])
        self.refused("--socket", "/proc/tower/pcm.sock", has=["/proc/tower/pcm.sock"])
        self.refused("--socket", self.path("x" * 120), has=["107"])
        self.refused("--socket", self.path("file"), has=[self.path("file")])
        self.assertTrue(os.path.isfile(self.path("file")), "what is no socket stays")

    def test_a_live_socket_is_left_alone(self):
        server = self.serve()
        said = self.refused("--socket", server.socket_path, has=[server.socket_path])
        self.assertRegex(said, "in use|another")
        # The first is still there, and takes audio.
        producer = RawProducer(server.socket_path)
        self.addCleanup(producer.close)
        producer.start_sending([sound.stereo(sound.tone([500], 3)).tobytes()])
        server.wait_origin("live")
        self.stop(server)

    def test_a_stale_socket_is_replaced(self):
        path = self.path("stale.sock")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
            dead.listen()
        server = self.serve("--socket", path)
        producer = RawProducer(path)
        producer.close()
        self.stop(server)
        self.assertFalse(os.path.exists(path))

    def test_a_socket_left_by_a_killed_transmitter_is_replaced(self):
        path = self.path("left.sock")
        first = self.serve("--socket", path)
        first.kill()
        first.wait()
        self.assertTrue(os.path.exists(path))
        second = self.serve("--socket", path)
        self.stop(second)


class TestCheck(TowerTestCase):
    def check(self, *flags, environment=None):
        """Run `tower check`; returns {key: (value, where it came from)}."""
        program = self.tower("check", *flags, environment=environment)
        self.assertEqual(program.code, 0, program.stderr())
        self.text = program.stdout()
        found = {}
        for line in self.text.splitlines():
            match = re.match(r"(\w+) = (.*?)\s+; (.*)", line)
            if match:
                found[match.group(1)] = match.group(2), match.group(3)
        return found

    def ini(self, text):
        with open(self.path("station.ini"), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path("station.ini")

    def test_flags_beat_environment_beats_file_beats_defaults(self):
        path = self.ini("[tower]\nport = 8101\ngrace = 1.5\nbitrate = 96k\n")
        environment = {"TOWER_PORT": "8102", "TOWER_PCM_GRACE_SEC": "2.5"}
        found = self.check("--config", path, "--port", "8103", environment=environment)
        self.assertEqual(found["port"][0], "8103")
        self.assertIn("--port", found["port"][1])
        self.assertEqual(found["grace"][0], "2.5")
        self.assertIn("TOWER_PCM_GRACE_SEC", found["grace"][1])
        self.assertIn(found["bitrate"][0], ("96k", "96000"))
        self.assertIn("station.ini:4", found["bitrate"][1])
        self.assertEqual(found["buffer_frames"][0], "100")
        self.assertIn("default", found["buffer_frames"][1])

    def test_the_contracts_names_and_defaults(self):
        found = self.check()
        self.assertEqual(found["host"][0], "127.0.0.1")
        self.assertEqual(found["port"][0], "8005")
        self.assertEqual(found["grace"][0], "5")
        self.assertEqual(found["encoder"][0], "lame")
        names = {"TOWER_HOST": "::1", "TOWER_PORT": "9000", "TOWER_BITRATE": "192k",
                 "TOWER_TONE_FREQUENCY": "1000", "TOWER_SOCKET_PATH": "/tmp/x.sock",
                 "TOWER_PCM_BUFFER_SIZE": "50", "TOWER_PCM_GRACE_SEC": "3",
                 "TOWER_CLIENT_TIMEOUT_MS": "250", "TOWER_CLIENT_BUFFER_BYTES": "8192",
                 "TOWER_ENCODER_BACKOFF_MS": "10,20", "TOWER_ENCODER_MAX_RESTARTS": "7",
                 "TOWER_LOG_LEVEL": "debug"}
        found = self.check(environment=names)
        for name in names:
            self.assertEqual([where for _, where in found.values()].count(name), 1, name)

    def test_the_output_is_a_config_file(self):
        first = self.check("--port", "8107", "--grace", "0.25", "--encoder-backoff-ms", "10,20")
        again = self.check("--config", self.ini(self.text))
        self.assertEqual({key: value for key, (value, _) in first.items()},
                         {key: value for key, (value, _) in again.items()})

    def test_the_default_socket_is_under_xdg_runtime_dir(self):
        found = self.check(environment={"XDG_RUNTIME_DIR": self.folder})
        self.assertTrue(found["socket"][0].startswith(self.folder), found["socket"])
        self.assertTrue(self.check()["socket"][0].startswith("/run/tower/"))

    def test_errors_are_told(self):
        path = self.ini("port = many\n")
        program = self.tower("check", "--config", path)
        self.assertEqual(program.code, 2)
        self.assertIn("station.ini:1", program.stderr())
        self.assertEqual(len(program.stderr().strip().splitlines()), 1)

    def test_serve_takes_what_check_says(self):
        path = self.ini("[tower]\ntone_frequency = 1000\ngrace = 0\nbitrate = 192k\n")
        server = self.serve("--config", path)
        status = server.wait_origin("tone")
        self.assertEqual(status["bitrate_bps"], 192000)
        self.stop(server)
