"""Troubles of the transmitter's own two processes."""
import os
import signal
import time

from fault import fault
from harness import process_exists, wait_until


def is_ready(station):
    try:
        return station.server.get("/readyz")[0] == 200
    except OSError:  # it was the old worker that was asked, with its last breath
        return False


def wait_for_another(station, worker):
    """Returns the incident's words: how the new worker took over."""
    wait_until(lambda: station.server.worker not in (None, worker), "there is another worker")
    wait_until(lambda: is_ready(station), "it is on air")
    assert not process_exists(worker), "the old one is gone"


def count_replaced(station, why):
    return station.status()["keeper"]["replaced"][why]


def kill_worker(station, number):
    worker, before = station.pid, count_replaced(station, "killed")
    child = station.child()
    os.kill(worker, number)
    wait_for_another(station, worker)
    assert count_replaced(station, "killed") == before + 1
    wait_until(lambda: not child or not process_exists(child), "its ffmpeg is gone")


@fault("worker killed", stall=0.5)
def worker_killed(station):
    """SIGKILL: another process goes on with the next frame, and everybody stays."""
    kill_worker(station, signal.SIGKILL)


@fault("worker crashed", stall=0.5)
def worker_crashed(station):
    """SIGSEGV."""
    kill_worker(station, signal.SIGSEGV)


@fault("worker aborted", stall=0.5)
def worker_aborted(station):
    """SIGABRT."""
    kill_worker(station, signal.SIGABRT)


@fault("worker killed three times in a row", stall=0.5)
def worker_killed_thrice(station):
    """As soon as the new one is on air."""
    for _ in range(3):
        kill_worker(station, signal.SIGKILL)


@fault("worker hangs", stall=2.0)
def worker_hangs(station):
    """SIGSTOP to it alone: it is noticed within 2 s, and replaced."""
    worker, before = station.pid, count_replaced(station, "stalled")
    os.kill(worker, signal.SIGSTOP)
    began = time.monotonic()
    wait_for_another(station, worker)
    assert count_replaced(station, "stalled") == before + 1
    return f"another one is on air after {time.monotonic() - began:.1f} s"


@fault("reload", stall=0.5)
def reload(station):
    """SIGHUP: a worker with the settings as they are now."""
    worker = station.pid
    station.server.kill(signal.SIGHUP)
    wait_for_another(station, worker)


@fault("upgrade", stall=0.5)
def upgrade(station):
    """SIGUSR2: the program on disk goes on, in the same process."""
    worker = station.pid
    station.server.kill(signal.SIGUSR2)
    wait_for_another(station, worker)
    assert station.server.runs()


@fault("upgrade, then reload", stall=0.5)
def upgrade_then_reload(station):
    """What listens is the same throughout, although port 0 was asked for."""
    upgrade(station)
    station.settle()
    reload(station)
