"""Who is on air: by rank, by hand, and how it is seen. The real producers, one beside the other."""
import base64
import http.client
import json
import os
import signal

from harness import TowerTestCase, takes
import sound

PASSWORD = "open sesame"


def on_air(status):
    return next((each for each in status["producers"]["list"] if each["on_air"]), {})


def state_of(status, name):
    return next((each["state"] for each in status["producers"]["list"] if each["name"] == name),
                None)


class TestSwitch(TowerTestCase):
    def setUp(self):
        super().setUp()
        self.password_file = self.path("password")
        with open(self.password_file, "w", encoding="ascii") as file:
            file.write(PASSWORD + "\n")
        os.chmod(self.password_file, 0o600)

    def station(self, *flags):
        server = self.serve("--grace", "1", "--password-file", self.password_file, *flags)
        self.base = f"http://127.0.0.1:{server.port}"
        return server

    def named(self, server, name, *words):
        self.feed(server, "mock:tone", "--name", name, *words)
        server.wait_status(lambda s: state_of(s, name) in ("on air", "waiting"), f"{name} is there")

    def wait_on_air(self, server, name):
        return server.wait_status(lambda s: on_air(s).get("name") == name, f"{name} is on air")

    def switch(self, *words, password_file=None):
        return self.tower("switch", "--password-file", password_file or self.password_file, *words)

    def post(self, server, body, password=PASSWORD):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        bearer = base64.b64encode(f"anybody:{password}".encode()).decode()
        connection.request("POST", "/switch", body, {"Authorization": f"Basic {bearer}"})
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    def comings(self, server):
        """[(subject, cause)] of who came on air, as the journal has it."""
        journal = json.loads(server.get("/journal")[2])
        return [(each["subject"].split(" ")[0], each["cause"]) for each in journal["incidents"]
                if each["event"] == "producer-came"]

    @takes(12)
    def test_by_rank_and_back(self):
        server = self.station()
        self.named(server, "playlist")
        before = self.wait_on_air(server, "playlist")
        self.assertEqual(before["producers"]["takeovers"], 0)
        self.named(server, "live")
        self.wait_on_air(server, "live")
        # What it had sent has been on air: it waits once there is more.
        status = server.wait_status(lambda s: state_of(s, "playlist") == "waiting", "it waits")
        self.assertEqual(status["producers"]["takeovers"], 1)
        self.assertIsNone(status["producers"]["chosen"])
        ranks = {each["name"]: each["rank"] for each in status["producers"]["list"]}
        self.assertLess(ranks["live"], ranks["playlist"])
        told = self.tower("status", self.base)
        self.assertEqual(told.code, 0, told.stderr())
        self.assertRegex(told.stdout(), r"(?m)^ +live is on air for [\d.]+s \(number 2, process \d+")
        self.assertRegex(told.stdout(), r"(?m)^ +playlist waits for [\d.]+s \(number 1, process ")
        self.assertLess(told.stdout().index("live is on air"), told.stdout().index("playlist waits"))
        self.programs[2].kill()
        self.wait_on_air(server, "playlist")
        self.assertEqual(self.comings(server), [("playlist", None), ("live", "by-rank"),
                                                ("playlist", None)])
        self.stop(server)

    @takes(12)
    def test_by_hand_and_by_rank_again(self):
        server = self.station()
        self.named(server, "live")
        self.named(server, "playlist")
        self.wait_on_air(server, "live")
        done = self.switch("playlist", self.base)
        self.assertEqual((done.code, done.stdout()), (0, "playlist goes on air.\n"), done.stderr())
        status = self.wait_on_air(server, "playlist")
        self.assertEqual(status["producers"]["chosen"], "playlist")
        self.assertTrue(on_air(status)["chosen"])
        self.assertIn(" is on air for ", self.tower("status", self.base).stdout())
        self.assertIn(", chosen by hand (", self.tower("status", self.base).stdout())
        answer = json.loads(server.get("/switch")[2])
        self.assertEqual(answer, {"chosen": "playlist", "on_air": "playlist",
                                  "names": ["live", "playlist"]})
        back = self.tower("switch", "--auto", self.base,
                          environment={"TOWER_PASSWORD_FILE": self.password_file})
        self.assertEqual((back.code, back.stdout()), (0, "It goes by rank again.\n"), back.stderr())
        status = self.wait_on_air(server, "live")
        self.assertIsNone(status["producers"]["chosen"])
        self.assertEqual(self.comings(server)[:2], [("live", None), ("playlist", "by-hand")])
        # Nobody reads the password out of a log.
        self.assertNotIn(PASSWORD, server.stderr() + server.stdout())
        self.stop(server)

    @takes(12)
    def test_the_choice_lasts_as_long_as_it_plays(self):
        server = self.station()
        self.named(server, "live")
        self.named(server, "playlist")
        self.assertEqual(self.switch("playlist", self.base).code, 0)
        self.wait_on_air(server, "playlist")
        self.programs[2].kill()
        status = self.wait_on_air(server, "live")
        self.assertIsNone(status["producers"]["chosen"])
        self.stop(server)

    @takes(12)
    def test_the_choice_outlives_the_worker(self):
        server = self.station()
        self.named(server, "live")
        self.named(server, "playlist")
        self.assertEqual(self.switch("playlist", self.base).code, 0)
        self.wait_on_air(server, "playlist")
        os.kill(server.worker, signal.SIGKILL)
        status = server.wait_status(lambda s: s["keeper"]["generation"] == 2 and on_air(s),
                                    "another worker serves")
        self.assertEqual(on_air(status)["name"], "playlist")
        self.assertEqual(status["producers"]["chosen"], "playlist")
        self.assertEqual(self.switch("--auto", self.base).code, 0)
        self.wait_on_air(server, "live")
        self.stop(server)

    @takes(8)
    def test_one_without_a_name_by_its_number(self):
        server = self.station()
        self.named(server, "live")
        raw = self.produce(server)
        raw.start_sending([bytes(sound.FRAME_BYTES)] * 500)
        server.wait_status(lambda s: state_of(s, None) == "waiting", "it waits")
        self.assertEqual(self.switch("#2", self.base).code, 0)
        server.wait_status(lambda s: on_air(s).get("id") == 2, "it is on air")
        self.stop(server)

    @takes(8)
    def test_refusals(self):
        server = self.station()
        nobody = self.switch("live", self.base)
        self.assertEqual(nobody.code, 1)
        self.assertIn("there is none", nobody.stderr())
        self.named(server, "live")
        self.produce(server)
        server.wait_status(lambda s: s["producers"]["connected"] == 2, "the mute one is there")
        other = self.switch("other", self.base)
        self.assertEqual((other.code, other.stdout()), (1, ""))
        self.assertRegex(other.stderr(), r"^tower switch: \S+: 404 [^\n]*there are: live, #2\n$")
        mute = self.switch("#2", self.base)
        self.assertEqual(mute.code, 1)
        self.assertRegex(mute.stderr(), r"^tower switch: \S+: 409 [^\n]*nothing to play\n$")
        wrong = self.path("wrong")
        with open(wrong, "w", encoding="ascii") as file:
            file.write("open barley\n")
        refused = self.switch("live", self.base, password_file=wrong)
        self.assertEqual(refused.code, 1)
        self.assertIn("401", refused.stderr())
        self.assertNotIn("barley", refused.stderr() + server.stderr())
        self.assertEqual(self.post(server, '{"producer": "live"}', "wrong")[0], 401)
        self.assertEqual(self.post(server, '{"producer": 1}')[0], 400)
        self.assertEqual(self.post(server, '{"producer": "live"}')[0], 200)
        self.stop(server)
        gone = self.switch("live", self.base)
        self.assertEqual(gone.code, 1)
        self.assertIn("connect", gone.stderr())

    @takes(3)
    def test_nobody_where_there_is_no_password(self):
        server = self.serve()
        refused = self.switch("live", f"http://127.0.0.1:{server.port}")
        self.assertEqual(refused.code, 1)
        self.assertIn("403", refused.stderr())
        self.stop(server)

    def test_wrong_use(self):
        for words, given in (([], "--auto"), (["Live"], "Live"), (["http://a/"], "http://a/"),
                             (["#"], "#"), (["x" * 33], "x" * 33), (["live", "ftp://a"], "ftp://a"),
                             (["live", "http://a", "http://b"], "http://b"),
                             (["--auto", "http://a", "http://b"], "http://b"),
                             (["--name"], "--name")):
            program = self.switch(*words)
            self.assertEqual(program.code, 2, words)
            self.assertEqual(program.stderr().count("\n"), 1, program.stderr())
            self.assertIn(given, program.stderr())
        for words in (["live"], ["--password-file", self.path("none"), "live"],
                      ["live", "--password-file"]):
            program = self.tower("switch", *words)
            self.assertEqual(program.code, 2, words)
            self.assertIn("password", program.stderr())
