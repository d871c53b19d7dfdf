"""The journal: what happened is in it, with what listeners had of it."""
import json
import os
import resource
import signal
import socket
import time

from harness import TowerTestCase, takes, wait_until
from listening import Listener


class TestJournal(TowerTestCase):
    def incidents(self, server, event=None, since=0):
        status, headers, body = server.get(f"/journal?since={since}")
        self.assertEqual(status, 200, body)
        self.assertEqual(headers["content-type"], "application/json")
        found = json.loads(body)["incidents"]
        return [i for i in found if event in (None, i["event"])]

    def wait_incident(self, server, event, subject=None, since=0):
        """The first of that event behind number `since`."""
        def there():
            for incident in self.incidents(server, event, since):
                if subject in (None, incident["subject"]):
                    return incident
            return None
        return wait_until(there, f"{event} is in the journal", 60, 0.05)

    def lines(self, path):
        with open(path, encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    @takes(25)
    def test_a_killed_feeder_is_in_the_journal_with_every_frame(self):
        path = self.path("journal")
        server = self.serve("--journal", path, "--grace", 0.5)
        listener = Listener(server.port)
        feeder = self.feed(server, "mock:noise")
        server.wait_origin("live")
        came = self.wait_incident(server, "producer-came")
        self.assertIn(f"process {feeder.pid}", came["text"])
        wait_until(lambda: server.status()["frames_by_origin"]["live"] > 50, "live for a while")
        steady = server.status()
        before = self.incidents(server)[-1]["number"]
        feeder.kill()
        feeder.wait()
        lost = self.wait_incident(server, "programme-lost", since=before)
        went = self.wait_incident(server, "producer-went", since=before)
        gone = self.wait_incident(server, "input-fault", "disconnected", since=before)
        server.wait_origin("tone")
        self.feed(server, "mock:noise")
        back = self.wait_incident(server, "programme-back", since=lost["number"])
        over = self.wait_incident(server, "input-fault-over", "disconnected", since=lost["number"])
        now = server.status()
        stood_in = {origin: now["frames_by_origin"][origin] - steady["frames_by_origin"][origin]
                    for origin in ("grace", "tone")}

        self.assertEqual(lost["cause"], "no-audio")
        self.assertEqual(lost["frames"], {"grace": 1})
        self.assertEqual(lost["frames_missed"], 0)
        # In the same tick; the rest is for a machine with other work.
        self.assertLess(lost["ms_to_substitute"], 24)
        self.assertGreaterEqual(went["time"], came["time"])
        self.assertGreater(gone["ms_to_substitute"], 0)
        if now["ticks"]["skipped"] == steady["ticks"]["skipped"]:
            self.assertEqual(back["frames"], stood_in, "each frame that stood in, by its origin")
            between = back["frame"] - lost["frame"]
            # A feeder that stutters on its way back has live frames among them.
            self.assertIn(between - sum(stood_in.values()), range(42))
            self.assertLess(abs(back["duration_ms"] - 24 * between), 24)
            self.assertEqual(back["frames_missed"], 0)
        self.assertEqual(back["listeners_lost"], 0)
        self.assertEqual(over["frames"]["tone"], stood_in["tone"])
        self.assertGreaterEqual(over["duration_ms"], gone["duration_ms"])
        listener.hang_up()

        self.stop(server)
        lines = self.lines(path)
        self.assertEqual([line["number"] for line in lines], list(range(1, len(lines) + 1)))
        self.assertIn(back, lines)
        self.assertEqual(lines[0]["event"], "started")
        self.assertEqual(lines[-1]["event"], "stopped")
        total = sum(lines[-1]["frames"].values())
        self.assertLess(abs(lines[-1]["frame"] - total), 3, "every frame that went on air")

    @takes(20)
    def test_a_killed_and_a_stopped_ffmpeg(self):
        server = self.serve("--encoder", "ffmpeg", "--encoder-backoff-ms", "200")
        child = server.wait_encoder("on air")["encoder"]["child_pid"]
        spare = server.status()["encoder"]["frames_spare"]
        self.assertEqual(self.incidents(server, "encoder-failed"), [], "a start is no failure")
        os.kill(child, signal.SIGKILL)
        back = self.wait_incident(server, "encoder-back")
        failed, = self.incidents(server, "encoder-failed")
        self.assertEqual((failed["subject"], failed["cause"]), ("ffmpeg", "exit"))
        self.assertIn("signal 9", failed["text"])
        self.assertGreaterEqual(failed["ms_to_substitute"], 0)
        carried = server.status()["encoder"]["frames_spare"] - spare
        self.assertEqual(back["frames"], {"spare": carried})
        self.assertEqual(back["frame"] - failed["frame"], carried, "no frame is missing")
        self.assertEqual(back["frames_missed"], 0)

        child = server.wait_encoder("on air")["encoder"]["child_pid"]
        os.kill(child, signal.SIGSTOP)
        self.wait_incident(server, "encoder-back", since=back["number"])
        failed = self.incidents(server, "encoder-failed", since=back["number"])[0]
        self.assertIn(failed["cause"], ("mute", "not-reading"))
        self.assertGreater(failed["frames"]["spare"], 5, "from when it fell silent")
        self.stop(server)

    @takes(15)
    def test_a_listener_that_is_dropped_in_an_outage_is_counted(self):
        server = self.serve("--client-timeout-ms", 500, "--client-buffer-bytes", 4096)
        feeder = self.feed(server, "mock:noise")
        server.wait_origin("live")
        feeder.kill()
        self.wait_incident(server, "programme-lost")
        with socket.socket() as mute:
            mute.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            mute.connect(("127.0.0.1", server.port))
            mute.sendall(b"GET /stream HTTP/1.0\r\n\r\n")
            server.wait_status(lambda s: s["listeners"]["ended"]["timeout"] == 1, "it is dropped")
        self.feed(server, "mock:noise")
        self.assertEqual(self.wait_incident(server, "programme-back")["listeners_lost"], 1)
        self.stop(server)

    @takes(10)
    def test_a_transmitter_that_was_stopped_for_a_while(self):
        server = self.serve("--resync-after-ms", 50, "--keeper", "no")
        server.wait_status(lambda s: s["ticks"]["emitted"] > 20, "it runs")
        began = time.monotonic()
        server.kill(signal.SIGSTOP)
        # So long that it can't be taken for one of the machine's own pauses.
        time.sleep(1)
        server.kill(signal.SIGCONT)
        stopped_ms = (time.monotonic() - began) * 1000
        stalled = wait_until(lambda: [i for i in self.incidents(server, "stalled")
                                      if i["duration_ms"] > 800], "it is in the journal")[0]
        self.assertLess(stalled["duration_ms"], stopped_ms + 5000)

        # One that is stopped in the middle of a tick notices only at the next that it has missed
        # some: these have a line of their own then.
        def missed():
            return sum(i["frames_missed"] for i in self.incidents(server, "stalled"))
        wait_until(lambda: missed() > 30, "what was missed is in the journal")
        self.assertLessEqual(missed(), server.status()["ticks"]["skipped"])
        self.stop(server)

    @takes(25)
    def test_a_killed_worker_and_an_outage_that_goes_on_behind_it(self):
        path = self.path("journal")
        server = self.serve("--journal", path, "--grace", 0.5)
        listener = Listener(server.port)
        feeder = self.feed(server, "mock:noise")
        server.wait_origin("live")
        wait_until(lambda: server.status()["frames_by_origin"]["live"] > 50, "live for a while")
        feeder.kill()
        feeder.wait()
        lost = self.wait_incident(server, "programme-lost")
        server.wait_origin("tone")
        worker = server.worker
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: server.worker not in (None, worker), "there is another")
        wait_until(lambda: server.get("/readyz")[0] == 200, "it is on air")
        killed = self.wait_incident(server, "worker-killed", since=lost["number"])
        self.assertEqual(killed["cause"], "SIGKILL")
        self.assertEqual(killed["subject"], f"worker 1 (process {worker})")
        self.assertGreater(killed["ms_to_substitute"], 0)
        self.assertLess(killed["ms_to_substitute"], 500)
        self.assertEqual(killed["listeners_lost"], 0)
        before = server.status()["ticks"]["skipped"]
        self.assertLessEqual(killed["frames_missed"], before)
        self.assertIn(lost, self.incidents(server), "what was before is known still")
        self.feed(server, "mock:noise")
        back = self.wait_incident(server, "programme-back", since=killed["number"])
        self.assertEqual(set(back["frames"]), {"grace", "tone"})
        if back["frames_missed"] == 0:
            # What was killed may not have counted its last; nor is live what was so for a moment
            # in between, from a feeder that the machine has no time for.
            between = back["frame"] - lost["frame"]
            self.assertIn(between - sum(back["frames"].values()), range(-2, 10 * 42))
        numbers = [incident["number"] for incident in self.incidents(server)]
        self.assertEqual(numbers, list(range(1, len(numbers) + 1)))
        self.assertEqual(len(self.incidents(server, "started")), 1)

        worker = server.worker
        server.kill(signal.SIGHUP)
        wait_until(lambda: server.worker not in (None, worker), "it is reloaded")
        wait_until(lambda: server.get("/readyz")[0] == 200, "it is on air")
        reloaded = self.wait_incident(server, "reloaded", since=back["number"])
        self.assertEqual(reloaded["subject"], f"worker 2 (process {worker})")
        self.assertEqual(len(self.incidents(server, "worker-killed")), 1)
        self.assertEqual(self.incidents(server, "stalled"), [])
        self.assertIsNone(listener.ending)
        listener.hang_up()
        self.stop(server)
        lines = self.lines(path)
        self.assertEqual([line["number"] for line in lines], list(range(1, len(lines) + 1)))
        self.assertEqual(lines[-1]["event"], "stopped")
        for event in ("started", "worker-killed", "reloaded", "stopped"):
            self.assertEqual([line["event"] for line in lines].count(event), 1, event)
        # Not counted twice, though two workers counted: some 42 frames a second.
        seconds = lines[-1]["duration_ms"] / 1000
        self.assertLess(sum(lines[-1]["frames"].values()), seconds / .024 + 3)

    @takes(15)
    def test_faults_and_requests_across_deaths(self):
        server = self.serve("--dead-air-after", 0)
        fault = self.wait_incident(server, "input-fault")
        self.assertEqual(fault["subject"], "disconnected")
        worker = server.worker
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: server.worker not in (None, worker), "there is another")
        stalled = self.wait_incident(server, "worker-stalled", since=fault["number"])
        self.assertGreater(stalled["ms_to_substitute"], 1400, "from the last frame")
        self.assertGreater(stalled["frames_missed"], 40)
        # The new worker sees the fault after 2 s, and says nothing new.
        server.wait_status(lambda s: s["input"]["disconnected"]["seconds"], "it sees it")
        self.feed(server, "mock:noise")
        over = self.wait_incident(server, "input-fault-over", since=stalled["number"])
        self.assertEqual(len(self.incidents(server, "input-fault")), 1)
        self.assertGreater(over["duration_ms"], 4000, "from when it began")
        self.assertEqual(self.incidents(server, "stalled"), [])
        keeper = server.pid
        worker = server.worker
        os.kill(keeper, signal.SIGKILL)
        server.wait(10)
        self.addCleanup(os.kill, worker, signal.SIGTERM)
        killed = self.wait_incident(server, "keeper-killed", since=over["number"])
        self.assertEqual(killed["subject"], f"keeper (process {keeper})")
        self.assertIn("went on as one", killed["text"])

    @takes(10)
    def test_a_reload_that_is_refused(self):
        config = self.path("station.ini")
        with open(config, "w", encoding="utf-8") as file:
            file.write("name = Before\n")
        server = self.serve("--config", config)
        started = self.wait_incident(server, "started")
        with open(config, "w", encoding="utf-8") as file:
            file.write("nmae = After\n")
        server.kill(signal.SIGHUP)
        refused = self.wait_incident(server, "reload-refused", since=started["number"])
        self.assertEqual(refused["cause"], "refused")
        self.assertIn("station.ini:1: unknown setting 'nmae'", refused["text"])
        # One with which no worker can begin; nobody who listens notices.
        listener = Listener(server.port)
        listener.wait_bytes(384 * 50)
        with open(config, "w", encoding="utf-8") as file:
            file.write("journal = /nonexistent/journal\n")
        server.kill(signal.SIGHUP)
        refused = self.wait_incident(server, "reload-refused", since=refused["number"])
        self.assertIn("the old ones are back", refused["text"].lower())
        listener.wait_more_frames(50)
        self.assertIsNone(listener.ending)
        self.assertIn(started, self.incidents(server), "the journal goes on")
        listener.hang_up()

    @takes(15)
    def test_a_killed_transmitter_leaves_a_file_that_goes_on(self):
        path = self.path("journal")
        server = self.serve("--journal", path, "--keeper", "no")
        self.wait_incident(server, "started")
        wait_until(lambda: os.path.getsize(path) > 0, "a line is written")
        server.kill(signal.SIGKILL)
        server.wait()
        with open(path, "a", encoding="utf-8") as file:
            file.write('{"number":2,"ti')
        again = self.serve("--journal", path)
        self.wait_incident(again, "started")
        self.stop(again)
        shown = self.tower("journal", "--file", path)
        self.assertEqual(shown.code, 0, shown.stderr())
        words = shown.stdout().splitlines()
        self.assertEqual(len([w for w in words if "started: the transmitter started" in w]), 2)
        self.assertIn("stopped", words[-1])
        self.assertIn("1 lines are no incidents", shown.stderr())

    @takes(15)
    def test_the_command(self):
        path = self.path("journal")
        server = self.serve("--journal", path)
        url = f"http://127.0.0.1:{server.port}"
        self.wait_incident(server, "started")
        as_json = self.tower("journal", "--url", url, "--json")
        self.assertEqual(as_json.code, 0, as_json.stderr())
        self.assertEqual([json.loads(line) for line in as_json.stdout().splitlines()],
                         self.incidents(server))
        words = self.tower("journal", "--url", url + "/journal")
        self.assertEqual(words.code, 0)
        self.assertRegex(words.stdout().splitlines()[0],
                         r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  frame 0 +started: ")
        followers = [self.start(*c, name="follow") for c in (
            (server.command[0], "journal", "--follow", "--json", "--url", url),
            (server.command[0], "journal", "--follow", "--json", "--file", path))]
        feeder = self.feed(server, "mock:tone")
        self.wait_incident(server, "producer-came")
        for follower in followers:
            wait_until(lambda f=follower: "producer-came" in f.stdout(), "it is followed")
            events = [json.loads(line)["event"] for line in follower.stdout().splitlines()]
            self.assertEqual(events.count("started"), 1)
            follower.kill()
        feeder.kill()
        self.stop(server)
        self.assertEqual(self.tower("journal", "--url", url).code, 1, "nobody answers")
        self.assertEqual(self.tower("journal", "--file", self.path("none")).code, 1)
        for bad in (["--nonsense"], ["--file"], ["word"], ["--file", "a", "--url", "b"],
                    ["--url", "ftp://x"]):
            self.assertEqual(self.tower("journal", *bad).code, 2, bad)
        self.assertIn("--follow", self.tower("journal", "--help").stdout())

    @takes(5)
    def test_since_takes_a_number(self):
        server = self.serve()
        self.wait_incident(server, "started")
        for bad in ("x", "-1", "+1", "%201", "", "99999999999999999999999"):
            self.assertEqual(server.get(f"/journal?since={bad}")[0], 400, bad)
        self.assertEqual(self.incidents(server, since=1),
                         [i for i in self.incidents(server) if i["number"] > 1])
        self.stop(server)

    @takes(5)
    def test_a_journal_that_cannot_be_written_is_said_before_the_start(self):
        for path in ("/nonexistent/journal", "/dev/null", self.folder):
            refused = self.tower("serve", "--port", "0", "--socket", self.path("s"),
                                 "--journal", path)
            self.assertEqual(refused.code, 2)
            self.assertIn("--journal", refused.stderr())
            self.assertEqual(len(refused.stderr().splitlines()), 1)

    @takes(20)
    def test_a_full_disk_under_log_and_journal_harms_nothing_else(self):
        # A file that may not grow beyond a size takes no more, as a full disk does.
        path = self.path("journal")
        server = self.serve("--journal", path)
        listener = Listener(server.port)
        self.wait_incident(server, "started")
        whole = resource.prlimit(server.worker, resource.RLIMIT_FSIZE)
        resource.prlimit(server.worker, resource.RLIMIT_FSIZE, (0, whole[1]))
        for _ in range(3):
            feeder = self.feed(server, "mock:tone")
            server.wait_status(lambda s: s["producers"]["connected"] == 1, "it is connected")
            feeder.kill()
            feeder.wait()
            server.wait_status(lambda s: s["producers"]["connected"] == 0, "it is gone")
        wait_until(lambda: json.loads(server.get("/journal")[2])["lines_lost"] >= 3, "counted")
        listener.wait_more_frames(50)
        resource.prlimit(server.worker, resource.RLIMIT_FSIZE, whole)
        self.feed(server, "mock:tone")
        lost = self.wait_incident(server, "lines-lost")
        self.assertGreaterEqual(lost["count"], 3)
        self.assertGreaterEqual(len(self.incidents(server, "producer-went")), 3, "in memory")
        listener.hang_up()
        self.stop(server)
        self.assertIn(lost, self.lines(path))
        self.assertEqual(len([1 for line in self.lines(path) if line["event"] == "lines-lost"]), 1)
        self.assertEqual(server.stderr().count("takes lines again"), 1)
        self.assertIn("could not be written", server.stderr())
