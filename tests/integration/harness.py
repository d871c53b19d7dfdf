"""Runs the real programs for the integration tests, and ends them whatever happens.

Everything waits for a condition with a generous deadline, never for a while.
"""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("BUILD") or os.path.join(ROOT, "build/release"))


def find_tower():
    if os.environ.get("TOWER"):
        return os.path.abspath(os.environ["TOWER"])
    for place in ("tower", "src/cli/tower"):
        path = os.path.join(BUILD, place)
        if os.access(path, os.X_OK):
            return path
    return os.path.join(BUILD, "tower")


TOWER = find_tower()
# What a sanitizer, or glibc's heap check, prints when it finds something.
SANITIZER = re.compile(
    r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|LeakSanitizer"
    r"|malloc\(\)|free\(\)|double free|stack smashing|Assertion")
# Settings of the person who runs the tests must not change what they judge.
CLEAN_ENVIRONMENT = {name: value for name, value in os.environ.items()
                     if not name.startswith("TOWER") and name != "XDG_RUNTIME_DIR"}


def takes(seconds):
    """Say how long a test takes, so that the long ones begin first."""
    def mark(function):
        function.seconds = seconds
        return function
    return mark


def wait_until(condition, what, seconds=30.0, interval=0.01):
    """Wait until condition() is true and return what it returned."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(interval)


def process_exists(pid):
    """Does it run, be it only one of its threads? A zombie does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            is_ended = stat.read().rpartition(")")[2].split()[0] in "ZX"
        return not is_ended or len(os.listdir(f"/proc/{pid}/task")) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(pid):
    """The pids of the children of process `pid`, zombies too."""
    children = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as stat:
                parent = int(stat.read().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            children.append(int(entry))
    return children


def open_descriptors(pid):
    """How many descriptors process `pid` has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


# Becomes the program it is told, with descriptors from 3 on, as a service manager passes sockets on.
PASS_ON = """
import fcntl, os, sys
passed = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 64) for fd in sys.argv[1].split(",")]
for place, fd in enumerate(passed):
    os.dup2(fd, 3 + place, inheritable=True)
os.closerange(3 + len(passed), 256)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(passed)))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Program:
    """A program that runs, its stdin, and what it has said so far in two files. What is in `passed`
    it gets as LISTEN_FDS."""

    def __init__(self, folder, name, command, stdin=subprocess.DEVNULL, environment=None, passed=()):
        self.name = name
        self.command = [str(word) for word in command]
        fds = [file.fileno() for file in passed]
        if fds:
            self.command = [sys.executable, "-c", PASS_ON, ",".join(map(str, fds)), *self.command]
        self.stdout_path = os.path.join(folder, name + ".out")
        self.stderr_path = os.path.join(folder, name + ".err")
        with open(self.stdout_path, "wb") as out, open(self.stderr_path, "wb") as err:
            self.process = subprocess.Popen(
                self.command, stdin=stdin, stdout=out, stderr=err, cwd=folder, pass_fds=fds,
                env={**CLEAN_ENVIRONMENT, **(environment or {})})
        self.pid = self.process.pid

    def stdout(self):
        with open(self.stdout_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def stderr(self):
        with open(self.stderr_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def runs(self):
        return self.process.poll() is None

    def wait(self, seconds=30.0):
        """Wait for its end and return the exit code, as subprocess has it."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} did not end within {seconds:.0f} s: {self.stderr()[-2000:]}"
            ) from None

    def kill(self, number=signal.SIGKILL):
        if not self.runs():
            return
        self.process.send_signal(number)

    def end(self):
        """Whatever happened: it runs no more, nor does anything in its group."""
        if self.runs():
            self.process.send_signal(signal.SIGCONT)
            self.kill(signal.SIGKILL)
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()


class Server(Program):
    """`tower serve` on a free port, with its socket in the test's folder."""

    def __init__(self, folder, name, flags, environment=None, program=TOWER, passed=()):
        self.socket_path = os.path.join(folder, name + ".sock")
        command = [program, "serve", "--port", "0"]
        if "--socket" in flags:
            self.socket_path = flags[flags.index("--socket") + 1]
        elif "XDG_RUNTIME_DIR" in (environment or {}):
            self.socket_path = os.path.join(environment["XDG_RUNTIME_DIR"], "tower/pcm.sock")
        else:
            command += ["--socket", self.socket_path]
        super().__init__(folder, name, command + list(flags), environment=environment,
                         passed=passed)
        self.port = None
        self.stop_seconds = None

    def kill(self, number=signal.SIGKILL):
        """What must reach both of its processes does: of the two, one would go on."""
        if number not in (signal.SIGSTOP, signal.SIGKILL, signal.SIGCONT):
            super().kill(number)
            return
        if number == signal.SIGCONT:
            super().kill(number)
        else:
            super().kill(signal.SIGSTOP)
        worker = self.worker
        if worker:
            os.kill(worker, number)
        if number == signal.SIGKILL:
            super().kill(number)
            # It has all descriptors until then, the sockets that listen among them.
            wait_until(lambda: not process_exists(worker), "the worker is gone")

    def wait_ready(self):
        def banner():
            found = re.search(r"http://127\.0\.0\.1:(\d+)/stream", self.stdout())
            if not found and not self.runs():
                raise AssertionError(f"tower serve ended with {self.process.returncode}: "
                                     f"{self.stdout()}{self.stderr()}")
            return found
        self.port = int(wait_until(banner, "tower serve says where it listens").group(1))
        wait_until(lambda: self.get("/readyz")[0] == 200, "/readyz answers 200")

    @property
    def worker(self):
        """The pid of the process that serves; None while there is none."""
        for child in children_of(self.pid):
            try:
                with open(f"/proc/{child}/comm", encoding="ascii") as comm:
                    if comm.read().strip() == "tower-worker" and process_exists(child):
                        return child
            except (FileNotFoundError, ProcessLookupError):
                pass
        return None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/stream"

    def get(self, path, method="GET"):
        """Returns (status, headers with lower-case names, body). Whom a dying worker leaves without
        an answer asks again; so does who asks while a worker goes on as the keeper that was killed."""
        while True:
            worker = self.worker
            try:
                return self.get_once(path, method)
            except (ConnectionResetError, http.client.HTTPException):
                if self.worker == worker and self.runs():
                    raise

    def get_once(self, path, method):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, headers, answer.read()
        finally:
            connection.close()

    def status(self):
        status, _, body = self.get("/status")
        assert status == 200, f"/status answered {status}: {body!r}"
        return json.loads(body)

    def wait_status(self, condition, what, seconds=30.0):
        """Wait until condition(/status) holds; returns that status."""
        last = {}

        def holds():
            last["status"] = self.status()
            return last["status"] if condition(last["status"]) else None
        try:
            return wait_until(holds, what, seconds, 0.02)
        except AssertionError as error:
            raise AssertionError(f"{error}; last status: {last.get('status')}") from None

    def wait_origin(self, origin, seconds=30.0):
        return self.wait_status(lambda s: s["origin"] == origin, f"the origin is {origin}", seconds)

    def wait_encoder(self, state, seconds=30.0):
        return self.wait_status(lambda s: s["encoder"]["state"] == state,
                                f"the encoder is {state}", seconds)

    def stop(self, number=signal.SIGTERM):
        """Stop it as a person would; returns the exit code and notes how long it took."""
        began = time.monotonic()
        self.kill(number)
        code = self.wait(20)
        self.stop_seconds = time.monotonic() - began
        return code


class RawProducer:
    """A producer without the program: a connected Unix socket, and a thread that writes."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Connected without a timeout: with one, a full backlog is an error instead of a wait.
        self.socket.connect(path)
        self.socket.settimeout(60)
        self.error = None
        self.sent_bytes = 0
        self.thread = None

    def send(self, data):
        self.socket.sendall(data)

    def _write(self, pieces, close_at_end):
        try:
            for piece in pieces:
                self.socket.sendall(piece)
                self.sent_bytes += len(piece)
            if close_at_end:
                self.socket.close()
        except OSError as error:
            self.error = error

    def start_sending(self, pieces, close_at_end=True):
        """Write every piece from a thread, as fast as the socket takes them."""
        self.thread = threading.Thread(target=self._write, args=(pieces, close_at_end), daemon=True)
        self.thread.start()

    def wait_sent(self, seconds=90.0):
        self.thread.join(seconds)
        assert not self.thread.is_alive(), "the producer could not write all it had"
        assert self.error is None, f"the producer's socket failed: {self.error}"

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        if self.thread:
            self.thread.join(10)
        self.socket.close()


class TowerTestCase(unittest.TestCase):
    """A folder of its own, and programs that are gone when the test is over."""

    def setUp(self):
        # Short, since a socket path holds 107 bytes.
        self.folder = tempfile.mkdtemp(prefix="tower-it-", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.programs = []
        self.logs = ""
        self.addCleanup(self._end_all)

    def path(self, name):
        return os.path.join(self.folder, name)

    def _add(self, program):
        self.programs.append(program)
        return program

    def _unused(self, name):
        return f"{name}{sum(p.name.startswith(name) for p in self.programs) + 1}"

    def serve(self, *flags, environment=None, program=TOWER, passed=()):
        """Start a server and wait until it is ready."""
        server = self._add(Server(self.folder, self._unused("serve"), list(map(str, flags)),
                                  environment, program, passed))
        server.wait_ready()
        return server

    def start(self, *command, name=None, stdin=subprocess.DEVNULL, environment=None,
              passed=()):
        """Start any other program."""
        name = self._unused(name or os.path.basename(str(command[0])))
        return self._add(Program(self.folder, name, command, stdin, environment, passed))

    def tower(self, *words, seconds=30.0, stdin=subprocess.DEVNULL, environment=None,
              passed=()):
        """Run `tower words...` to its end; returns it with .code set."""
        program = self.start(TOWER, *words, name="tower-" + (str(words[0]) if words else ""),
                             stdin=stdin, environment=environment, passed=passed)
        program.code = program.wait(seconds)
        return program

    def feed(self, server, *words, **options):
        """Start `tower feed words...` to the server."""
        return self.start(TOWER, "feed", *words, "--socket", server.socket_path, name="feed",
                          **options)

    def produce(self, server):
        producer = RawProducer(server.socket_path)
        self.addCleanup(producer.close)
        return producer

    def stop(self, server, number=signal.SIGTERM):
        """Stop the server and require that it ended in order."""
        code = server.stop(number)
        print(f"  stopped in {server.stop_seconds * 1000:.0f} ms")
        self.assertEqual(code, 0, server.stderr()[-3000:])
        # The promise is 2 s; the rest is for sanitizers and a machine with other work.
        self.assertLess(server.stop_seconds, 5.0)

    def _end_all(self):
        for program in self.programs:
            program.end()
        self.logs = "".join(
            f"--- {program.name}: {' '.join(program.command)[:300]}: "
            f"exit code {program.process.returncode}\n{program.stderr()[-2500:]}"
            for program in self.programs)
        for program in self.programs:
            for stream in (program.stderr(), program.stdout()):
                self.assertIsNone(SANITIZER.search(stream), f"{program.name}: {stream[-6000:]}")

    def run(self, result=None):
        """As usual, but with the programs' own words where something failed."""
        before = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > before:
            print(self.logs)
        return result
