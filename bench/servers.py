"""Tower and Icecast as the benchmarks start them: on a free port, with a stream; and the load."""
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
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOWER = os.environ.get("TOWER") or os.path.join(ROOT, "build/release/tower")
LOAD = os.environ.get("LOAD") or os.path.join(ROOT, "build/release/bench/load")
PATIENCE_S = 30
PASSWORD = "bench"
# Settings of the person who measures must not change what is measured.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TOWER")}
ICECAST_XML = """<icecast>
  <limits><clients>25000</clients><sources>2</sources><queue-size>524288</queue-size>
    <client-timeout>30</client-timeout><header-timeout>15</header-timeout>
    <source-timeout>10</source-timeout><burst-on-connect>1</burst-on-connect>
    <burst-size>32000</burst-size></limits>
  <authentication><source-password>{password}</source-password>
    <admin-user>admin</admin-user><admin-password>{password}</admin-password></authentication>
  <hostname>localhost</hostname>
  <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
  {mounts}<fileserve>1</fileserve>
  <paths><logdir>{folder}</logdir><webroot>/usr/share/icecast2/web</webroot>
    <adminroot>/usr/share/icecast2/admin</adminroot></paths>
  <logging><accesslog>-</accesslog><errorlog>error.log</errorlog><loglevel>1</loglevel></logging>
  <security><chroot>0</chroot>{owner}</security>
</icecast>
"""
CHANGE_OWNER = "<changeowner><user>nobody</user><group>nogroup</group></changeowner>"


class Trouble(Exception):
    """The measurement cannot go on; the words say why."""


def end_in_order():
    """Told to end, end what was started too, as after Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stat_fields(pid):
    """The fields of /proc/PID/stat behind the name: state, parent, ..."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def family(pid):
    """The process and all that descend from it."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(stat_fields(entry)[1])
            except (FileNotFoundError, ProcessLookupError):
                pass
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def cpu_seconds(pid):
    """User and system time of the process and its descendants."""
    ticks = 0
    for member in family(pid):
        fields = stat_fields(member)
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def thread_cpu_seconds(pid):
    """User and system time of the threads of the process and its descendants, by name: fanout-0 and
    fanout-1 are fanout."""
    seconds = {}
    for member in family(pid):
        for task in os.listdir(f"/proc/{member}/task"):
            with open(f"/proc/{member}/task/{task}/stat", encoding="ascii",
                      errors="replace") as file:
                name, _, rest = file.read().partition("(")[2].rpartition(")")
            name, fields = re.sub(r"-\d+$", "", name), rest.split()
            used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            seconds[name] = seconds.get(name, 0) + used
    return seconds


def own_kib(pid):
    """Resident memory that is its own, file pages left out, descendants included."""
    kib = 0
    for member in family(pid):
        with open(f"/proc/{member}/status", encoding="ascii") as file:
            kib += sum(int(match[1]) for match in
                       re.finditer(r"(?m)^Rss(?:Anon|Shmem):\s+(\d+) kB", file.read()))
    return kib


def kernel_tcp_bytes():
    """Memory in the buffers of all TCP sockets of the machine."""
    with open("/proc/net/sockstat", encoding="ascii") as file:
        pages = int(re.search(r"(?m)^TCP:.* mem (\d+)", file.read())[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Server:
    """A server on a free port, with a stream at self.path once it is ready. Leaving it ends it."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="tower-bench-", dir="/tmp")
        os.chmod(self.folder, 0o777)
        self.port = free_port()
        self.started = []
        self.log = open(os.path.join(self.folder, "log"), "wb")
        try:
            self.process = self.start()
            self.wait_for_audio()
        except BaseException:
            self.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def run(self, *words):
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self.log,
                                   stderr=self.log, env=ENVIRONMENT)
        self.started.append(process)
        return process

    def get(self, path, want=None):
        """Body of an answer with status 200, or its first `want` bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(f"{path} answered {answer.status}")
            return answer.read(want)
        finally:
            connection.close()

    def wait_for_audio(self):
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                if len(self.get(self.path, 8000)) == 8000:
                    return
            except (OSError, http.client.HTTPException):
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise Trouble(f"{self.name} does not stream; its log: {self.tail()}")

    def tail(self):
        with open(os.path.join(self.folder, "log"), encoding="utf-8", errors="replace") as file:
            return file.read()[-600:]

    def stop(self):
        for process in reversed(self.started):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Tower(Server):
    name = "Tower"
    path = "/stream"

    def __init__(self, *flags):
        self.flags = flags
        super().__init__()

    @property
    def socket_path(self):
        return os.path.join(self.folder, "pcm.sock")

    def start(self):
        if not os.access(TOWER, os.X_OK):
            raise Trouble(f"{TOWER}: no such program; build it first, or name it in TOWER")
        return self.run(TOWER, "serve", "--port", str(self.port), "--socket", self.socket_path,
                        *self.flags)

    def status(self):
        return json.loads(self.get("/status"))

    def ticks(self):
        """Counts since the start: ticks due, missed, begun, those within 2 ms; the latest in ms."""
        said = dict(re.findall(r'(?m)^tower_(tick\w+(?:\{le="0.002"\})?) (\S+)$',
                               self.get("/metrics").decode()))
        return {"due": int(said["ticks_due_total"]),
                "missed": int(said["ticks_late_total"]) + int(said["ticks_skipped_total"]),
                "begun": int(said["tick_lateness_seconds_count"]),
                "in_time": int(said['tick_lateness_seconds_bucket{le="0.002"}']),
                "latest_ms": 1000 * float(said["tick_lateness_max_seconds"])}

    @staticmethod
    def version():
        return subprocess.run([TOWER, "--version"], capture_output=True, text=True,
                              check=True).stdout.strip()


class Icecast(Server):
    name = "Icecast"
    path = "/bench.mp3"
    mounts = ""  # what the configuration says of them

    def start(self):
        config = os.path.join(self.folder, "icecast.xml")
        # It refuses to run as root: started by root, it becomes somebody else.
        owner = CHANGE_OWNER if os.getuid() == 0 else ""
        with open(config, "w", encoding="utf-8") as file:
            file.write(ICECAST_XML.format(password=PASSWORD, port=self.port, folder=self.folder,
                                          owner=owner, mounts=self.mounts))
        server = self.run("icecast2", "-c", config)
        time.sleep(0.5)
        self.start_source()
        return server

    def start_source(self):
        self.run("ffmpeg", "-nostdin", "-loglevel", "error", "-re", "-f", "lavfi", "-i",
                 "sine=frequency=440:sample_rate=48000", "-ac", "2", "-c:a", "libmp3lame", "-b:a",
                 "128k", "-content_type", "audio/mpeg", "-f", "mp3",
                 f"icecast://source:{PASSWORD}@127.0.0.1:{self.port}{self.path}")

    @staticmethod
    def version():
        return subprocess.run(["icecast2", "-v"], capture_output=True, text=True,
                              check=False).stdout.strip()


class Load:
    """The load program on a server, from its start to its report."""

    def __init__(self, server, listeners, seconds, per_second=2000, settle=4, stalled=0):
        if not os.access(LOAD, os.X_OK):
            raise Trouble(f"{LOAD}: no such program; build it first, or name it in LOAD")
        self.process = subprocess.Popen(
            [LOAD, "--port", str(server.port), "--path", server.path, "--listeners",
             str(listeners), "--per-second", str(per_second), "--settle", str(settle),
             "--seconds", str(seconds), "--stalled", str(stalled)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def wait_measuring(self):
        if self.process.stderr.readline() != "measuring\n":
            raise Trouble("the load program did not come to measure")

    def finish(self):
        out, errors = self.process.communicate()
        if self.process.returncode != 0:
            raise Trouble(f"the load program failed: {errors}")
        return json.loads(out)
