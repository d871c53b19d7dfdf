"""Troubles of the machine."""
import ctypes
import datetime
import json
import os
import re
import resource
import signal
import time

from fault import fault
from station import SharedWords
from harness import RawProducer, Server, wait_until

HOUR_NS = 3600 * 10 ** 9


def last_stamp(station):
    """The time of the last line of the log, as it says."""
    stamps = re.findall(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d{3}Z ", station.log(), re.M)
    return datetime.datetime.fromisoformat(stamps[-1] + "+00:00").timestamp()


def say_something(station):
    lines = len(station.log())
    station.produce().close()
    wait_until(lambda: len(station.log()) > lines and station.log().endswith("\n"), "it is logged")


@fault("wall clock set forth and back an hour")
def wall_clock_set(station):
    """Nothing changes, but for the stamps of the log."""
    said = []
    for hours in (1, -1, 0):
        before, began = station.status(), time.monotonic()
        station.shift[0] = hours * HOUR_NS
        station.wait_ticks(30)
        say_something(station)
        after, took = station.status(), time.monotonic() - began
        ahead = last_stamp(station) - time.time()
        assert abs(ahead - 3600 * hours) < 10, f"the shift works: {ahead} s"
        went = after["uptime_seconds"] - before["uptime_seconds"]
        assert abs(went - took) < 0.5, f"up for {went} s in {took} s"
        assert after["origin"] == "live" and after["encoder"]["state"] == "on air"
        assert after["encoder"]["restarts"] == before["encoder"]["restarts"]
        said.append(f"{ahead / 3600:+.0f} h")
    return "the log's stamps: " + ", ".join(said)


def stop_for(pids, seconds, then=None):
    """`then` is called with how long they were stopped, right before they go on."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        time.sleep(seconds)
        if then:
            then(time.monotonic() - began)
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


def expect_resync(station, before, stall):
    """The gap is counted, and ffmpeg is not blamed for it."""
    frames = round(stall / 0.024)
    after = station.server.wait_status(
        lambda s: s["ticks"]["resyncs"] > before["ticks"]["resyncs"], "the clock is set anew")
    skipped = after["ticks"]["skipped"] - before["ticks"]["skipped"]
    assert skipped >= frames - 25, f"{skipped} ticks skipped of {frames}"
    after = station.wait_ticks(30)
    assert after["encoder"]["restarts"] == before["encoder"]["restarts"], "ffmpeg is not to blame"


@fault("stopped for 10 s", stall=10.0)
def stopped(station):
    """The transmitter, its child and its feeder stand still together; the gap is counted."""
    before = station.status()
    stop_for([*station.processes(), station.feeder.pid], 10.0)
    expect_resync(station, before, 10.0)


@fault("machine suspended and resumed", stall=5.0)
def suspended(station):
    """As above, but CLOCK_MONOTONIC stands still too: to the transmitter no time has passed."""
    before = station.status()

    def stand_still(seconds):
        station.asleep = seconds
        station.shift[1] -= round(seconds * 1e9)
    stop_for([*station.processes(), station.feeder.pid], 4.5, stand_still)
    after = station.wait_ticks(30)
    went = after["uptime_seconds"] - before["uptime_seconds"]
    assert went < 3, f"{went} s have passed for it"
    assert after["ticks"]["skipped"] == before["ticks"]["skipped"], "nothing is skipped"
    assert after["encoder"]["restarts"] == before["encoder"]["restarts"], "ffmpeg is not to blame"


@fault("CPU stolen for 3 s", stall=3.0)
def cpu_stolen(station):
    """The transmitter, both of its processes, stands still; ffmpeg and the feeder do not."""
    before = station.status()
    stop_for(station.processes()[:2], 3.0)
    expect_resync(station, before, 3.0)


@fault("CPU stolen for 0.2 s", stall=0.2)
def cpu_stolen_shortly(station):
    """Less than resync-after-ms: what was missed is made up for, and nothing is skipped."""
    before = station.status()
    stop_for(station.processes()[:2], 0.2)
    after = station.wait_ticks(12)
    assert after["ticks"]["late"] > before["ticks"]["late"]


def hog(cpu, seconds):
    """A process that has a core for itself, if that is allowed."""
    pid = os.fork()
    if pid == 0:
        try:
            os.sched_setaffinity(0, {cpu})
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
            ready_until = time.monotonic() + seconds
            while time.monotonic() < ready_until:
                pass
            os._exit(0)
        finally:
            os._exit(1)
    return pid


@fault("all cores busy at real time for 0.8 s", stall=0.8)
def cores_busy(station):
    """Others have every core, above the pump's own priority."""
    hogs = [hog(cpu, 0.8) for cpu in os.sched_getaffinity(0)]
    allowed = [os.waitpid(pid, 0)[1] == 0 for pid in hogs]
    station.wait_ticks(12)
    return "" if all(allowed) else "not allowed here"


def journal_lines(station):
    """Each line of the journal's file as it is; a part of one is an error."""
    with open(station.journal, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


@fault("disk full under log and journal")
def disk_full(station):
    """No line can be written; when there is room again, lines are, and those lost are counted."""
    if not station.has_disk:
        return "no disk may be mounted here; see the next"
    hole = os.path.join(station.disk, "filler")
    with open(hole, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    lines_before = len(journal_lines(station))
    # What is left of their last pages.
    with open(station.journal, "ab", buffering=0) as file:
        file.write(b"\n" * (-os.path.getsize(station.journal) % 4096))
    before = None
    while before != os.path.getsize(station.server.stderr_path):
        before = os.path.getsize(station.server.stderr_path)
        for _ in range(20):
            station.produce().close()
        time.sleep(0.2)

    def kill_ffmpeg():
        child = station.child()
        os.kill(child, signal.SIGKILL)
        station.wait_ffmpeg_on_air(child)
    kill_ffmpeg()
    wait_until(lambda: json.loads(station.server.get("/journal")[2])["lines_lost"] > 0,
               "the journal misses a line")
    os.unlink(hole)
    say_something(station)
    wait_until(lambda: "could not be written: No space left" in station.log(), "the log says so")
    kill_ffmpeg()
    lost = wait_until(lambda: [line for line in journal_lines(station)[lines_before:]
                               if line["event"] == "lines-lost"], "and the journal")
    return lost[-1]["text"]


@fault("log that may not grow")
def log_may_not_grow(station):
    """The limit of a file's size is reached: as above, and the signal for it kills nobody."""
    limits = resource.prlimit(station.pid, resource.RLIMIT_FSIZE)
    before = os.path.getsize(station.server.stderr_path)
    resource.prlimit(station.pid, resource.RLIMIT_FSIZE, (before, limits[1]))
    try:
        station.produce().close()
        time.sleep(0.5)
        assert os.path.getsize(station.server.stderr_path) == before
    finally:
        resource.prlimit(station.pid, resource.RLIMIT_FSIZE, limits)
    say_something(station)


@fault("stopping with nobody reading the log", is_random=False)
def stopping(station):
    """A transmitter of its own ends in order and in time, whatever the wall clock is set to."""
    shift = SharedWords(station.path("shift-stop"), 2)
    log = station.path("stop.err")
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        server = Server(station.folder, "stop", [], {
            **station.environment(), "CLOCK_SHIFT_FILE": station.path("shift-stop")})
        station.programs.append(server)
        server.wait_ready()
        writer = os.open(log, os.O_WRONLY | os.O_NONBLOCK)
        try:
            while True:
                os.write(writer, bytes(4096))
        except BlockingIOError:
            os.close(writer)
        RawProducer(server.socket_path).close()
        shift[0] = HOUR_NS
        server.kill(signal.SIGTERM)
        began = time.monotonic()
        code = server.wait(20)
    finally:
        os.close(reader)
        os.unlink(log)
    station.programs.remove(server)
    assert code == 0, f"it ended with {code}"
    return f"ended after {time.monotonic() - began:.1f} s"
