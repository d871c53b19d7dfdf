"""Troubles of the ffmpeg child: told apart, counted, and heard by nobody."""
import os
import signal
import time

from fault import fault
from harness import wait_until
from station import Station

KINDS = ("exits", "closes", "refusals", "mutes", "garbage")


def failures(station):
    encoder = station.status()["encoder"]
    return {kind: encoder[kind] for kind in KINDS}


def metrics(station):
    """The same as /metrics has it."""
    _, _, body = station.server.get("/metrics")
    found = {}
    for line in body.decode().splitlines():
        if line.startswith("tower_encoder_failures_total{"):
            found[line.split('"')[1]] = int(float(line.split()[-1]))
    return found


def expect(station, before, child, **more):
    """Wait until ffmpeg has failed so often in these ways, and is on air again."""
    wanted = {kind: before[kind] + more.get(kind, 0) for kind in KINDS}
    station.server.wait_status(
        lambda s: sum(s["encoder"][kind] for kind in KINDS) >= sum(wanted.values()),
        f"ffmpeg has failed: {more}")
    station.be_good()
    seconds = station.wait_ffmpeg_on_air(child)
    assert failures(station) == wanted, f"{failures(station)} and not {wanted}"
    assert metrics(station) == wanted, f"/metrics: {metrics(station)} and not {wanted}"
    return f"ffmpeg on air again after {seconds:.1f} s"


@fault("ffmpeg killed")
def ffmpeg_killed(station):
    """SIGKILL: LAME has the next frame."""
    before, child = failures(station), station.child()
    os.kill(child, signal.SIGKILL)
    return expect(station, before, child, exits=1)


@fault("ffmpeg stopped")
def ffmpeg_stopped(station):
    """SIGSTOP: it reads no more."""
    before, child = failures(station), station.child()
    os.kill(child, signal.SIGSTOP)
    return expect(station, before, child, refusals=1)


@fault("ffmpeg ended in order")
def ffmpeg_ended(station):
    """SIGTERM: it empties its encoder first, and none of that is heard."""
    before, child = failures(station), station.child()
    os.kill(child, signal.SIGTERM)
    return expect(station, before, child, exits=1)


def goes_bad(how, kind):
    """One that is on air, and then goes bad in that way."""
    @fault(f"ffmpeg {how}")
    def go(station):
        before, child = failures(station), station.child()
        station.be_good(how)
        os.kill(child, signal.SIGKILL)
        station.wait_ffmpeg_on_air(child)
        bad = station.child()
        failed = {"exits": 1}
        failed[kind] = failed.get(kind, 0) + 1
        return expect(station, before, bad, **failed)
    go.__doc__ = f"It is counted under {kind}."


goes_bad("exits", "exits")
goes_bad("closes stdin", "closes")
goes_bad("closes stdout", "closes")
goes_bad("stops reading", "refusals")
goes_bad("stops writing", "mutes")
goes_bad("writes garbage", "garbage")
goes_bad("writes too much", "garbage")


@fault("ffmpeg missing")
def ffmpeg_missing(station):
    """It cannot be started at all: on air, degraded, and saying so; back when it is there."""
    child = station.child()
    said = "could not be started: No such file"
    times = station.log().count(said)
    os.unlink(station.path("ffmpeg"))
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: station.log().count(said) >= times + 3, "it was tried")
    degraded = station.server.wait_encoder("degraded")
    assert degraded["state"] == "on air" and degraded["encoder"]["child_pid"] == 0
    assert station.server.get("/readyz")[0] == 200
    _, _, body = station.server.get("/metrics")
    assert b'tower_encoder_state{state="degraded"} 1' in body
    primary = degraded["encoder"]["frames_primary"]
    assert station.wait_ticks(20)["encoder"]["frames_primary"] == primary, "LAME is on air"
    assert "degraded)" in station.log().splitlines()[-1], "it says so"
    station.be_good()
    return f"ffmpeg on air again after {station.wait_ffmpeg_on_air(child):.1f} s"


class BareStation(Station):
    """No ffmpeg on this machine, from the start."""

    has_ffmpeg = False
    flags = Station.flags + ["--ffmpeg", "/nonexistent/ffmpeg"]


@fault("no ffmpeg from the start", station=BareStation)
def no_ffmpeg_from_the_start(station):
    """On air by LAME from the first frame."""
    status = station.server.wait_encoder("degraded")
    assert status["state"] == "on air" and status["encoder"]["frames_primary"] == 0
    assert "/nonexistent/ffmpeg could not be started: No such file" in station.log()
