"""Troubles of who feeds, and of who listens."""
import signal
import socket
import time

from fault import fault
from harness import wait_until
from station import AIRCHECKS, RECORDERS
import sound

STREAM = b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"
TONE = sound.stereo(sound.tone([700], 1, peak=0.4)).tobytes()


@fault("producer killed")
def producer_killed(station):
    """SIGKILL to the feeder: grace, then the tone; the next one is live at once."""
    station.feeder.kill(signal.SIGKILL)
    station.server.wait_origin("grace")
    station.server.wait_origin("tone")
    began = time.monotonic()
    station.ensure_live()
    return f"live {time.monotonic() - began:.1f} s after the next one's start"


@fault("producer mute")
def producer_mute(station):
    """It hangs, connected: the tone; when it goes on, so does the programme."""
    station.feeder.kill(signal.SIGSTOP)
    station.server.wait_origin("tone")
    assert station.status()["producers"]["connected"] == 1
    station.feeder.kill(signal.SIGCONT)
    began = time.monotonic()
    station.server.wait_origin("live")
    return f"live after {time.monotonic() - began:.1f} s"


@fault("producer silent")
def producer_silent(station):
    """Digital silence: it is on air as it comes, and told to be dead air."""
    station.stop_feeder()
    dead = "dead_air"
    count = station.status()["input"][dead]["count"]
    producer = station.produce()
    producer.start_sending([bytes(len(TONE))] * 3)
    station.server.wait_origin("live")
    station.server.wait_status(lambda s: s["input"][dead]["count"] == count + 1,
                               "the silence is dead air")


@fault("producer floods")
def producer_floods(station):
    """Writes as fast as it can: its writes wait, and nothing is dropped."""
    station.stop_feeder()
    before = station.status()
    producer = station.produce()
    producer.start_sending([TONE] * 60)
    station.server.wait_status(lambda s: s["router"]["count"] > s["router"]["capacity"] - 5,
                               "the queue is full")
    after = station.wait_ticks(40)
    assert after["router"]["overflow_count"] == before["router"]["overflow_count"]
    assert producer.sent_bytes < 10 * len(TONE), "its writes wait"


@fault("two producers")
def two_producers(station):
    """The second waits; when the first is killed it is on air within the queue's time."""
    second = station.feed()
    station.server.wait_status(lambda s: s["producers"]["connected"] == 2, "both are connected")
    producers = station.wait_ticks(20)["producers"]["list"]
    assert [p["on_air"] for p in producers] == [True, False], producers
    before = station.status()["frames_by_origin"]
    station.feeder.kill(signal.SIGKILL)
    station.feeder.wait()
    station.feeder = second
    station.server.wait_status(
        lambda s: [p["on_air"] for p in s["producers"]["list"]] == [True], "the second is on air")
    after = station.wait_ticks(12)["frames_by_origin"]
    assert after["tone"] == before["tone"], "nobody heard the fallback"


def connect(station, receive_bytes=0, request=STREAM):
    connection = station.keep(socket.socket())
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", station.server.port))
    connection.sendall(request)
    return connection


@fault("storm of listeners")
def storm_of_listeners(station):
    """Two hundred come at once, hear the stream, and leave at once."""
    began = time.monotonic()
    crowd = [connect(station) for _ in range(200)]
    for connection in crowd:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200"), "each is served"
    took = time.monotonic() - began
    station.server.wait_status(
        lambda s: s["listeners"]["current"] == RECORDERS + AIRCHECKS + len(crowd),
        "all are counted")
    return f"200 served within {took:.1f} s"


@fault("listeners that don't read")
def slow_listeners(station):
    """Twenty take nothing, and are dropped after their time."""
    dropped = station.status()["listeners"]["ended"]
    for _ in range(20):
        connect(station, receive_bytes=2048)
    permanent = RECORDERS + AIRCHECKS
    station.server.wait_status(lambda s: s["listeners"]["current"] > permanent, "they are there")
    after = station.server.wait_status(lambda s: s["listeners"]["current"] == permanent,
                                       "they are gone")["listeners"]["ended"]
    gone = sum(after[key] - dropped[key] for key in ("timeout", "lagged"))
    assert gone == 20, f"{gone} were dropped"


@fault("descriptors exhausted")
def descriptors_exhausted(station):
    """None is left: new ones wait, those there go on, it is said once; then all are served."""
    import resource
    import harness
    limits = resource.prlimit(station.pid, resource.RLIMIT_NOFILE)
    open_now = harness.open_descriptors(station.pid)
    resource.prlimit(station.pid, resource.RLIMIT_NOFILE, (open_now + 8, limits[1]))
    try:
        crowd = [connect(station) for _ in range(30)]
        producers = [station.produce() for _ in range(2)]
        wait_until(lambda: harness.open_descriptors(station.pid) >= open_now + 8, "none is left")
        time.sleep(2.5)
    finally:
        resource.prlimit(station.pid, resource.RLIMIT_NOFILE, limits)
    began = time.monotonic()
    for connection in crowd:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200"), "each is served now"
    took = time.monotonic() - began
    station.server.wait_status(
        lambda s: s["producers"]["connected"] == 1 + len(producers), "and each producer")
    # Once a minute at most, however often the fault comes.
    said = [station.log().count(words) for words in ("no new connection can be accepted",
                                                     "cannot accept producers")]
    assert max(said) <= 1 and (max(said) == 1 or time.monotonic() < station.said_until), said
    if max(said):
        station.said_until = time.monotonic() + 70
    return f"all served {took:.1f} s after there were some again"
