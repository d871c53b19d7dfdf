"""Memory runs out: single allocations fail, in a transmitter built so that they can be made to."""
import base64
import http.client
import json
import os
import signal
import socket
import threading
import time

import harness
from fault import fault
from station import ROOT, SharedWords, Station
from harness import Server, wait_until

PROGRAM = os.path.abspath(os.environ.get("TOWER_ALLOC") or os.path.join(ROOT, "build/alloc/tower"))
# Words of the control file, see failing_malloc.c.
EVERY, SEED, CALLS, FAILED, ROOMS = 0, 1, 2, 3, 4
ROOM_NAMES = ("pump", "encoder", "fan-out", "ingest", "http", "other")
WORDS = ROOMS + len(ROOM_NAMES)
PASSWORD = "swordfish"
AUTHORIZATION = {"Authorization": "Basic " + base64.b64encode(b":" + PASSWORD.encode()).decode()}
# One of each kind: method, path, header, body, status with memory enough.
REQUESTS = [
    ("GET", "/", {}, None, 200), ("HEAD", "/", {}, None, 200), ("GET", "/status", {}, None, 200),
    ("GET", "/metrics", {}, None, 200), ("GET", "/history", {}, None, 200),
    ("GET", "/status-json.xsl", {}, None, 200), ("GET", "/metadata", {}, None, 200),
    ("POST", "/metadata", AUTHORIZATION, '{"artist": "A", "title": "B"}', 200),
    ("POST", "/metadata", AUTHORIZATION, '{"artist": ', 400),
    ("POST", "/metadata", {}, "{}", 401),
    ("GET", "/admin/metadata?mode=updinfo&mount=/stream&song=C", AUTHORIZATION, None, 200),
    ("GET", "/listen.m3u", {}, None, 200), ("GET", "/listen.pls", {}, None, 200),
    ("GET", "/listen.xspf", {}, None, 200), ("GET", "/tower/buffer", {}, None, 200),
    ("GET", "/livez", {}, None, 200), ("GET", "/readyz", {}, None, 200),
    ("OPTIONS", "/status", {}, None, 204), ("GET", "/nothing", {}, None, 404),
    ("PATCH", "/status", {}, None, 405)]


class AllocStation(Station):
    """With a fallback file and a password, so that there is more to allocate."""

    program = PROGRAM

    def begin(self):
        assert os.access(PROGRAM, os.X_OK), \
            f"{PROGRAM}: no such program; meson setup build/alloc -Dinject_alloc_failures=true"
        self.control = SharedWords(self.path("control"), WORDS)
        with open(self.path("password"), "w", encoding="ascii") as file:
            file.write(PASSWORD + "\n")
        self.flags = Station.flags + ["--password-file", self.path("password"),
                                      "--fallback", self.path("song.wav")]
        super().begin()

    def environment(self):
        return {**super().environment(), "TOWER_FAILING_MALLOC": self.path("control")}


def content_of(path, body):
    """What of an answer is the same each time."""
    text = body.decode()
    if path == "/metrics":
        return sorted(line for line in text.splitlines() if line.startswith("# TYPE"))
    if path == "/readyz":
        return text.split(" ms ago")[1]
    if path.startswith(("/status", "/history", "/tower/buffer", "/metadata")) and text[:1] == "{":
        return sorted(json.loads(text))
    return text


class Load:
    """Clients of all kinds, until it is told to stop; counts what became of their requests."""

    def __init__(self, station, contents=None):
        self.contents = contents or {}
        self.port = station.server.port
        self.socket_path = station.server.socket_path
        self.is_over = False
        self.answered = 0
        self.closed = 0  # without a whole answer
        self.wrong = []  # answers that should not be
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=work, args=(i,), daemon=True)
                        for i, work in enumerate([self.ask] * 3 + [self.watch] * 2 +
                                                 [self.listen] * 2)]
        for thread in self.threads:
            thread.start()

    def count(self, is_answered, wrong=None):
        with self.lock:
            self.answered += is_answered
            self.closed += not is_answered
            if wrong:
                self.wrong.append(wrong)

    def ask(self, turn):
        while not self.is_over:
            turn += 1
            method, path, header, body, expected = REQUESTS[turn % len(REQUESTS)]
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            try:
                connection.request(method, path, body, header)
                answer = connection.getresponse()
                text = answer.read()
                # What reads JSON cannot always tell that memory was short from a bad text.
                is_right = answer.status == expected or (method == "POST" and expected == 200 and
                                                         answer.status == 400)
                if answer.status == expected and (method, path, body) in self.contents:
                    is_right = self.contents[method, path, body] == content_of(path, text)
                self.count(True, None if is_right else
                           f"{method} {path}: {answer.status}: {text[-200:]}")
            except (json.JSONDecodeError, IndexError) as error:
                self.count(True, f"{method} {path}: {error}: {text[-200:]}")
            except (OSError, http.client.HTTPException) as error:
                self.count(False, f"{path}: {error}" if isinstance(error, TimeoutError) else None)
            finally:
                connection.close()

    def watch(self, _):
        """Get events, again and again."""
        while not self.is_over:
            self.take("/events", b"event: status", 1.0)

    def listen(self, _):
        """Come to the stream, with titles, and leave."""
        while not self.is_over:
            self.take("/stream", b"icy-metaint", 0.2, "Icy-MetaData: 1\r\n")

    def take(self, path, expected, seconds, header=""):
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            data = b""
            try:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode())
                until = time.monotonic() + seconds
                while time.monotonic() < until or expected.lower() not in data.lower():
                    piece = connection.recv(65536)
                    if not piece:
                        self.count(False)
                        return
                    data += piece
                self.count(True)
            except OSError as error:
                self.count(False, f"{path}: {error}" if isinstance(error, TimeoutError) else None)

    def end(self):
        self.is_over = True
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive(), "a client waits for an answer that does not come"


def ask_all(station):
    """The content of each answer, with memory enough."""
    contents = {}
    for method, path, header, body, expected in REQUESTS:
        connection = http.client.HTTPConnection("127.0.0.1", station.server.port, timeout=20)
        connection.request(method, path, body, header)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status == expected, f"{method} {path}: {answer.status}: {text}"
        if method != "POST":
            contents[method, path, body] = content_of(path, text)
    return contents


def run_short_of_memory(station, every, seed, seconds):
    control = station.control
    for word in range(WORDS):
        control[word] = 0
    control[SEED] = seed
    contents = ask_all(station)
    resident = station.resident_bytes()
    load = Load(station, contents)
    try:
        control[EVERY] = every
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            # Producers with titles come and go, the fallback file is opened, ffmpeg is started.
            station.stop_feeder()
            os.kill(station.child_of_encoder(), signal.SIGKILL)
            time.sleep(0.8)
            station.feeder = station.feed()
            time.sleep(0.5)
    finally:
        control[EVERY] = 0
        load.end()
    grown = station.resident_bytes() - resident
    calls, failed = control[CALLS], control[FAILED]
    by_room = {name: control[ROOMS + i] for i, name in enumerate(ROOM_NAMES)}
    assert not load.wrong, f"answers: {load.wrong[:5]}"
    assert load.closed <= failed, f"{failed} failures cost {load.closed} connections"
    # None of these may allocate at all.
    assert by_room["pump"] == by_room["encoder"] == by_room["fan-out"] == 0, by_room
    assert failed > 20 and load.answered > 100, f"{failed} of {calls}, {load.answered} answered"
    assert ask_all(station) == contents, "with memory again all is as it was"
    return (f"{failed} of {calls} allocations failed and cost {load.closed} of "
            f"{load.closed + load.answered} connections; by room: {by_room}; "
            f"resident memory {grown / 1024:+.0f} KB")


@fault("memory short, now and then", station=AllocStation)
def memory_short(station):
    """One allocation in a thousand fails."""
    return run_short_of_memory(station, 1000, 1, 2)


@fault("memory short, often", station=AllocStation)
def memory_short_often(station):
    """One in twenty: hardly an answer is whole."""
    return run_short_of_memory(station, 20, 2, 2)


@fault("memory gone", station=AllocStation)
def memory_gone(station):
    """Every allocation fails: nothing but the air is left, and those who listen."""
    control = station.control
    for word in range(WORDS):
        control[word] = 0
    control[EVERY] = 1
    load = Load(station)
    time.sleep(2)
    control[EVERY] = 0
    load.end()
    assert control[FAILED] == control[CALLS] > 0
    return f"{load.closed} of {load.closed + load.answered} connections were closed"


@fault("memory short at the start", station=AllocStation)
def memory_short_at_the_start(station):
    """It starts, or says why not and ends with 1; for forty seeds."""
    started = 0
    for seed in range(40):
        control = SharedWords(station.path("control-start"), WORDS)
        control[SEED], control[EVERY] = seed, 60
        server = Server(station.folder, f"start{seed}", ["--encoder", "ffmpeg"],
                        {"TOWER_FAILING_MALLOC": station.path("control-start")}, PROGRAM)
        station.programs.append(server)
        wait_until(lambda: not server.runs() or "is on air" in server.stdout(),
                   "it starts or ends", interval=0.005)
        if server.runs():
            started += 1
            control[EVERY] = 0
            assert server.stop() == 0, f"seed {seed}: {server.stderr()}"
        else:
            code = server.wait()
            assert code == 1 and server.stderr().strip(), f"seed {seed}: {code}"
        assert not harness.SANITIZER.search(server.stderr()), f"seed {seed}: {server.stderr()}"
        station.programs.remove(server)
    assert 0 < started < 40, f"{started} of 40 started"
    return f"{started} of 40 started, the others said why not"
