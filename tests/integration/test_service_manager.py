"""Under a service manager: what it is told, its watchdog, and the sockets that it passes on."""
import os
import signal
import re
import socket
import time

from harness import TowerTestCase, children_of, takes, wait_until
from listening import Listener
import sound

WATCHDOG_SECONDS = 2.0


class NotifySocket:
    """What a service manager hears."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.setblocking(False)
        self.said = []  # every line
        self.at = 0     # those before it have been waited for

    def read(self):
        """Take what has come; returns the new lines."""
        new = []
        while True:
            try:
                new += self.socket.recv(65536).decode().splitlines()
            except BlockingIOError:
                self.said += new
                return new

    def wait(self, line):
        """Wait until that line comes, behind the one that was last waited for."""
        def comes():
            self.read()
            return line in self.said[self.at:]
        wait_until(comes, f"the service manager is told {line}")
        self.at = self.said.index(line, self.at) + 1


def listen_tcp(host="127.0.0.1"):
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.bind((host, 0))
    sock.listen(16)
    return sock


def listen_unix(path, kind=socket.SOCK_STREAM):
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(path)
    if kind == socket.SOCK_STREAM:
        sock.listen(16)
    return sock


class TestServiceManager(TowerTestCase):
    def notified(self, *flags, **variables):
        manager = NotifySocket(self.path("notify"))
        self.addCleanup(manager.socket.close)
        environment = {"NOTIFY_SOCKET": manager.path, **variables}
        return manager, self.serve(*flags, environment=environment)

    @takes(6)
    def test_it_is_told_how_things_are(self):
        manager, server = self.notified("--grace", "0")
        manager.wait("READY=1")
        manager.wait("STATUS=On air: tone, 0 listeners")
        listener = Listener(server.port)
        manager.wait("STATUS=On air: tone, 1 listener")
        producer = self.produce(server)
        producer.start_sending([sound.stereo(sound.tone([500], 20)).tobytes()])
        manager.wait("STATUS=On air: live, 1 listener")
        self.stop(server)
        listener.wait_ended()
        manager.wait("STOPPING=1")
        self.assertEqual(manager.said.count("READY=1"), 1)
        self.assertNotIn("WATCHDOG=1", manager.said, "nobody has asked")

    @takes(12)
    def test_the_watchdog_hears_while_frames_go_on_air_only(self):
        manager, server = self.notified(WATCHDOG_USEC=str(int(WATCHDOG_SECONDS * 1e6)))
        manager.wait("READY=1")
        for _ in range(3):
            manager.wait("WATCHDOG=1")
        server.kill(signal.SIGSTOP)
        wait_until(lambda: stopped(server.pid), "it is stopped")
        manager.read()
        time.sleep(WATCHDOG_SECONDS * 1.5)  # what is judged is that nothing comes for so long
        self.assertNotIn("WATCHDOG=1", manager.read())
        manager.at = len(manager.said)
        server.kill(signal.SIGCONT)
        for _ in range(3):
            manager.wait("WATCHDOG=1")
        self.stop(server)

    @takes(10)
    def test_workers_that_die_again_and_again_are_told_of(self):
        manager, server = self.notified("--grace", "0")
        manager.wait("READY=1")

        def is_told():
            worker = server.worker
            if worker:
                os.kill(worker, signal.SIGKILL)
            manager.read()
            return any(re.fullmatch(r"STATUS=\d+ workers in a row died: .*", line)
                       for line in manager.said)
        wait_until(is_told, "the service manager is told")
        self.assertIn("workers in a row died", server.stderr())
        manager.wait("STATUS=On air: tone, 0 listeners")
        self.stop(server)

    @takes(6)
    def test_children_cannot_speak_in_its_name(self):
        manager, server = self.notified("--encoder", "ffmpeg", WATCHDOG_USEC="5000000")
        server.wait_encoder("on air")
        found = 0
        for pid in children_of(server.worker):
            with open(f"/proc/{pid}/environ", "rb") as file:
                variables = file.read()
            found += 1
            self.assertNotIn(b"NOTIFY_SOCKET", variables)
            self.assertNotIn(b"WATCHDOG", variables)
        self.assertGreater(found, 0, "there is a child")
        manager.wait("READY=1")
        self.stop(server)

    def test_variables_that_make_no_sense_are_said_and_end_nothing(self):
        server = self.serve(environment={"NOTIFY_SOCKET": "nowhere"})
        self.stop(server)
        self.assertIn("the service manager is told nothing", server.stderr())


class TestPassedSockets(TowerTestCase):
    def opened(self, sock):
        self.addCleanup(sock.close)
        return sock

    @takes(10)
    def test_it_plays_and_is_fed_on_them(self):
        http = [self.opened(listen_tcp()) for _ in range(2)]
        path = self.path("pcm.sock")
        pcm = self.opened(listen_unix(path))
        # Who knocks before anybody is there waits.
        early = Listener(http[1].getsockname()[1])
        server = self.serve("--grace", "0", "--socket", path, passed=[http[0], pcm, http[1]])
        self.assertEqual(server.port, http[0].getsockname()[1])
        self.assertIn(path, server.stdout())
        late = Listener(server.port)
        producer = self.produce(server)
        producer.start_sending([sound.stereo(sound.tone([500], 20)).tobytes()])
        server.wait_origin("live")
        for listener in (early, late):
            listener.wait_more_frames(20)
        self.stop(server)
        for listener in (early, late):
            listener.wait_ended()
            self.assertEqual(listener.ending, "closed")
        # They are not its to close, nor is the file: the next one goes on with them.
        self.assertTrue(os.path.exists(path))
        waiting = Listener(http[0].getsockname()[1])
        again = self.serve("--grace", "0", "--socket", path, passed=[http[0], pcm, http[1]])
        waiting.wait_more_frames(20)
        self.feed(again, "mock:tone")
        again.wait_origin("live")
        self.stop(again)

    @takes(6)
    def test_either_alone(self):
        http = self.opened(listen_tcp())
        server = self.serve(passed=[http])
        self.assertEqual(server.port, http.getsockname()[1])
        self.feed(server, "mock:tone")
        server.wait_origin("live")
        self.stop(server)
        self.assertFalse(os.path.exists(server.socket_path), "that one is its own")
        path = self.path("pcm.sock")
        server = self.serve("--socket", self.path("other.sock"),
                            passed=[self.opened(listen_unix(path))])
        self.assertNotEqual(server.port, http.getsockname()[1])
        server.socket_path = path
        self.feed(server, "mock:tone")
        server.wait_origin("live")
        self.assertFalse(os.path.exists(self.path("other.sock")))
        self.stop(server)

    @takes(6)
    def test_children_do_not_inherit_them(self):
        http = self.opened(listen_tcp())
        server = self.serve("--encoder", "ffmpeg", passed=[http])
        server.wait_encoder("on air")
        inode = os.stat(f"/proc/{server.pid}/fd/3").st_ino
        for pid in children_of(server.worker):
            with open(f"/proc/{pid}/environ", "rb") as file:
                self.assertNotIn(b"LISTEN_", file.read())
            for fd in os.listdir(f"/proc/{pid}/fd"):
                self.assertNotEqual(os.stat(f"/proc/{pid}/fd/{fd}").st_ino, inode)
        self.stop(server)

    def test_check_says_where_they_listen(self):
        http, local = self.opened(listen_tcp()), self.opened(listen_unix(self.path("pcm.sock")))
        abstract = self.opened(listen_unix("\0tower-test-" + os.path.basename(self.folder)))
        six = self.opened(listen_tcp("::1"))
        checked = self.tower("check", passed=[http, local, six])
        self.assertEqual(checked.code, 0, checked.stderr())
        tail = checked.stdout().splitlines()[-3:]
        why = "was passed on already listening, and takes the place of"
        self.assertEqual(tail, [f"; 127.0.0.1:{http.getsockname()[1]} {why} host and port",
                                f"; [::1]:{six.getsockname()[1]} {why} host and port",
                                f"; {self.path('pcm.sock')} {why} socket"])
        checked = self.tower("check", passed=[abstract])
        self.assertIn("; @tower-test-" + os.path.basename(self.folder), checked.stdout())
        self.assertNotIn("passed", self.tower("check").stdout())

    @takes(8)
    def test_what_is_no_such_socket_is_one_line_and_exit_code_2(self):
        tcp, udp = listen_tcp(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        deaf, packets = socket.socket(), listen_unix(self.path("packets"), socket.SOCK_DGRAM)
        local, other = listen_unix(self.path("a")), listen_unix(self.path("b"))
        file = open("/dev/null", "rb")
        for sock in (tcp, udp, deaf, packets, local, other, file):
            self.opened(sock)
        many = [self.opened(listen_tcp()) for _ in range(17)]
        for passed, words in (
                ([tcp, udp], "descriptor 4 is neither a TCP nor a Unix stream socket"),
                ([packets], "descriptor 3 is neither a TCP nor a Unix stream socket"),
                ([deaf], "descriptor 3 does not listen"),
                ([file], "descriptor 3 is no socket"),
                ([local, tcp, other], "descriptor 5 is a second Unix socket"),
                (many, "descriptor 19 is one TCP socket too many"),
                (many + [local], "at most 17 sockets can be passed")):
            for word in ("serve", "check"):
                ended = self.tower(word, passed=passed)
                self.assertEqual(ended.code, 2, (words, ended.stderr()))
                self.assertEqual(ended.stdout(), "")
                self.assertEqual(ended.stderr().count("\n"), 1, ended.stderr())
                self.assertIn(words, ended.stderr())
                self.assertIn("LISTEN_FDS=", ended.stderr())
        for variables, words in (({"LISTEN_FDS": "1", "LISTEN_PID": "self"}, "LISTEN_PID"),
                                 ({"LISTEN_FDS": "one", "LISTEN_PID": "1"}, "LISTEN_FDS")):
            ended = self.tower("check", environment=variables)
            self.assertEqual((ended.code, ended.stderr()), (2, f"{words}: expected a number\n"))

    def test_anothers_are_left_alone(self):
        checked = self.tower("check", environment={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
        self.assertEqual(checked.code, 0, checked.stderr())
        self.assertNotIn("passed", checked.stdout())


def stopped(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "T"
