"""The worker is killed, stops, or is replaced; the keeper is killed: nobody who listens notices."""
import os
import shutil
import signal

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
        for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT):
            worker = server.worker
            os.kill(worker, number)
            self.wait_worker_after(server, worker)
        self.judge(listeners)
        self.assertEqual(server.stderr().count("going on with 2 listeners"), 3)

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
