"""The worker is killed, stops, or is replaced; the keeper is killed: nobody who listens notices."""
import base64
import json
import os
import shutil
import signal
import urllib.request

from harness import TOWER, TowerTestCase, process_exists, takes, wait_until
from listening import Listener, mp3_frames
import sound


class TestKeeper(TowerTestCase):
    def start_station(self, *flags, **options):
        server = self.serve("--grace", "0", *flags, **options)
        listeners = [Listener(server.port), Listener(server.port)]
        for listener in listeners:
            listener.wait_bytes(384 * 100)
        return server, listeners

    def wait_worker_after(self, server, before, seconds=20.0):
        wait_until(lambda: server.worker not in (None, before), "there is another worker", seconds)
        wait_until(lambda: server.get("/readyz")[0] == 200, "it is on air", seconds)

    def judge(self, listeners, seconds_more=1.5):
        """Everybody still listens, and what each has is one whole stream."""
        for listener in listeners:
            listener.wait_bytes(len(listener.body) + int(384 / .024 * seconds_more))
            self.assertIsNone(listener.ending)
        plain = bytes(listeners[0].body)
        _, end = mp3_frames(plain)
        self.assertLess(len(plain) - end, 384, "whole frames from the first to the last")
        sound.decode(plain[:end], self.folder)

    @takes(20)
    def test_a_killed_worker(self):
        # A sanitizer would take the signal for a finding of its own.
        server, listeners = self.start_station(environment={"ASAN_OPTIONS": "handle_segv=0"})
        for n, number in enumerate((signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT), 1):
            worker = server.worker
            os.kill(worker, number)
            self.wait_worker_after(server, worker)
            wait_until(lambda n=n: server.stderr().count("going on with 2 listeners") == n, "all")
        self.judge(listeners)

    def scribble(self, server, name, at, data):
        """Write into the first region of that name, as a worker that has gone mad might."""
        folder = f"/proc/{server.worker}/fd"
        for fd in sorted(os.listdir(folder), key=int):
            if os.readlink(f"{folder}/{fd}").startswith(f"/memfd:tower-{name}"):
                with open(f"{folder}/{fd}", "r+b", buffering=0) as region:
                    region.seek(at)
                    region.write(data)
                return
        self.fail(f"no region {name}")

    @takes(20)
    def test_a_table_that_does_not_hold_costs_those_in_it(self):
        server, listeners = self.start_station("--workers", "2")
        # The first 16 go to one of the two workers.
        listeners += [Listener(server.port) for _ in range(18)]
        server.wait_status(lambda s: s["listeners"]["current"] == 20, "all are there")
        worker = server.worker
        self.scribble(server, "listeners", 0, bytes(64))
        os.kill(worker, signal.SIGKILL)
        self.wait_worker_after(server, worker)
        wait_until(lambda: sum(x.ending is not None for x in listeners) in (4, 16), "they are lost")
        left = [x for x in listeners if x.ending is None]
        self.judge(left)
        self.assertIn("a table of listeners does not hold", server.stderr())
        new = Listener(server.port)
        new.wait_bytes(384 * 100)
        server.wait_status(lambda s: s["listeners"]["current"] == len(left) + 1,
                           "the rest, and a new one")

    @takes(20)
    def test_an_air_that_does_not_hold_costs_a_gap(self):
        server, listeners = self.start_station()
        worker = server.worker
        self.scribble(server, "air", 0, bytes(64))
        self.scribble(server, "frames", 0, bytes(64))
        self.scribble(server, "pump", 0, bytes(64))
        os.kill(worker, signal.SIGKILL)
        self.wait_worker_after(server, worker)
        for listener in listeners:
            listener.wait_bytes(len(listener.body) + 384 * 60)
            self.assertIsNone(listener.ending)

    @takes(20)
    def test_a_worker_that_is_stopped(self):
        server, listeners = self.start_station()
        worker = server.worker
        os.kill(worker, signal.SIGSTOP)
        self.wait_worker_after(server, worker)
        self.judge(listeners)
        self.assertFalse(process_exists(worker))

    @takes(20)
    def test_a_killed_keeper(self):
        server, listeners = self.start_station()
        worker = server.worker
        os.kill(server.pid, signal.SIGKILL)
        server.wait(10)
        self.addCleanup(os.kill, worker, signal.SIGTERM)
        wait_until(lambda: "going on with 2 listeners" in server.stderr(), "it goes on")
        self.judge(listeners)
        self.assertTrue(process_exists(worker), "the worker is the keeper now")

    @takes(20)
    def test_signals_for_the_worker_alone_are_the_keepers_to_act_on(self):
        server, listeners = self.start_station()
        worker = server.worker
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
            os.kill(worker, number)
        self.judge(listeners)
        self.assertEqual(server.worker, worker)

    @takes(10)
    def test_a_stop_that_reaches_both_is_in_order(self):
        server, listeners = self.start_station()
        # Two that wait become one, and bear the first sender's name.
        worker = server.worker
        os.kill(worker, signal.SIGSTOP)
        os.kill(worker, signal.SIGTERM)
        os.kill(server.pid, signal.SIGTERM)
        wait_until(lambda: "stopping: Terminated" in server.stderr(), "the keeper stops")
        os.kill(worker, signal.SIGCONT)
        self.assertEqual(server.wait(20), 0)
        for listener in listeners:
            listener.wait_ended()
            self.assertEqual(listener.ending, "closed", "an orderly end")

    @takes(20)
    def test_a_reload_that_is_asked_for_during_another(self):
        path = os.path.join(self.folder, "station.ini")

        def name(text):
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"name = {text}\n")
        name("First")
        server, listeners = self.start_station("--config", path)
        worker = server.worker
        name("Second")
        server.kill(signal.SIGHUP)
        wait_until(lambda: server.worker != worker, "the worker is being replaced")
        name("Third")
        server.kill(signal.SIGHUP)
        server.wait_status(lambda s: s["station"]["name"] == "Third", "the last settings hold")
        self.assertEqual(server.status()["keeper"]["request_error"], "")
        self.judge(listeners)

    @takes(20)
    def test_reload(self):
        path = os.path.join(self.folder, "station.ini")
        with open(path, "w", encoding="utf-8") as file:
            file.write("name = Before\ntone_frequency = 440\n")
        server, listeners = self.start_station("--config", path)
        with open(path, "w", encoding="utf-8") as file:
            file.write("name = Before\ntone_frequency = nonsense\n")
        worker = server.worker
        server.kill(signal.SIGHUP)
        wait_until(lambda: "not reloaded" in server.stderr(), "what is wrong is said")
        self.assertIn("station.ini:2: tone_frequency = nonsense", server.stderr())
        self.assertEqual(server.worker, worker)
        with open(path, "w", encoding="utf-8") as file:
            file.write("name = After\n")
        server.kill(signal.SIGHUP)
        self.wait_worker_after(server, worker)
        self.judge(listeners)
        self.assertEqual(server.status()["station"]["name"], "After")

    @takes(30)
    def test_upgrade(self):
        program = os.path.join(self.folder, "tower")
        shutil.copy(TOWER, program)
        server, listeners = self.start_station(program=program)
        worker = server.worker
        shutil.copy(TOWER, program + ".new")
        os.rename(program + ".new", program)
        server.kill(signal.SIGUSR2)
        self.wait_worker_after(server, worker)
        self.judge(listeners)
        self.assertTrue(server.runs(), "the same process")
        self.assertEqual(os.readlink(f"/proc/{server.pid}/exe"), program)

    @takes(30)
    def test_an_upgrade_that_is_none(self):
        program = os.path.join(self.folder, "tower")
        shutil.copy(TOWER, program)
        server, listeners = self.start_station(program=program)
        worker = server.worker
        with open(program + ".new", "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\necho no such thing >&2\nexit 1\n")
        os.chmod(program + ".new", 0o755)
        os.rename(program + ".new", program)
        server.kill(signal.SIGUSR2)
        wait_until(lambda: "not upgraded" in server.stderr(), "what is wrong is said")
        self.assertIn("no such thing", server.stderr())
        self.assertEqual(server.worker, worker)
        # One that says yes and then puts nothing on air.
        with open(program, "w", encoding="utf-8") as file:
            file.write('#!/bin/sh\n[ "$1" = check ] || exec sleep 60\n')
        server.kill(signal.SIGUSR2)
        wait_until(lambda: "the old one goes on" in server.stderr(), "the old one goes on")
        wait_until(lambda: server.get("/readyz")[0] == 200, "it is on air")
        pid = server.status()["keeper"]["pid"]
        self.addCleanup(os.kill, pid, signal.SIGTERM)
        self.judge(listeners)

    def title(self, server):
        return (server.status()["title"] or {}).get("text", "")

    @takes(25)
    def test_a_producers_title_is_taken_back_by_another_worker(self):
        with open(self.path("password"), "w", encoding="utf-8") as file:
            file.write("secret\n")
        server = self.serve("--grace", "0.5", "--password-file", self.path("password"))
        feeder = self.feed(server, "mock:noise", "--title", "A play")
        wait_until(lambda: self.title(server) == "A play", "it has its title")
        self.kill_worker(server)
        wait_until(lambda: server.status()["origin"] == "live", "the programme is on air")
        self.assertEqual(self.title(server), "A play")
        feeder.kill()
        wait_until(lambda: self.title(server) == "", "it goes with its programme")
        # And what is nobody's programme's stays.
        feeder = self.feed(server, "mock:noise", "--title", "A song")
        wait_until(lambda: self.title(server) == "A song", "it has its title")
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.port}/metadata",
            json.dumps({"title": "The news"}).encode(), method="POST",
            headers={"Authorization": "Basic " + base64.b64encode(b"x:secret").decode(),
                     "Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=10).close()
        wait_until(lambda: self.title(server) == "The news", "it is set")
        self.kill_worker(server)
        feeder.kill()
        server.wait_origin("tone")
        server.wait_status(lambda s: s["frames_by_origin"]["tone"] > 100, "long after")
        self.assertEqual(self.title(server), "The news")

    def kill_worker(self, server):
        worker = server.worker
        os.kill(worker, signal.SIGKILL)
        self.wait_worker_after(server, worker)
