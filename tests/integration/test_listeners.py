"""Listeners of every kind, judged by one that gets every byte."""
import random
import selectors
import socket
import struct
import time

from harness import TowerTestCase, open_descriptors, takes, wait_until
from listening import FRAME_SECONDS, Listener, frames_lost_to_clock, mp3_frames
import sound


class Visitor:
    """One of many listeners: comes, takes some bytes, and goes, in order or rudely."""

    def __init__(self, port, dice):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.sendall(b"GET /stream HTTP/1.1\r\nHost: here\r\n\r\n")
        self.socket.setblocking(False)
        self.data = b""
        self.enough = dice.choice([1, 400, 5000, 40000])
        self.is_rude = dice.random() < 0.5
        self.deadline = time.monotonic() + 30

    def read(self):
        """Returns True when it has had enough."""
        piece = self.socket.recv(65536)
        assert piece, "the transmitter closed a listener"
        self.data += piece
        return len(self.data) >= self.enough

    def leave(self):
        if self.is_rude:
            # A reset instead of an end.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def judge(self):
        header, _, body = self.data.partition(b"\r\n\r\n")
        assert header.startswith(b"HTTP/1.1 200"), header
        mp3_frames(body)  # begins at a frame and holds nothing but frames


class TestListeners(TowerTestCase):
    @takes(15)
    def test_one_that_never_reads_harms_nobody_and_is_dropped(self):
        server = self.serve("--client-timeout-ms", "1000", "--client-buffer-bytes", "4096",
                            "--bitrate", "320k")
        judge = Listener(server.port)
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        stuck.connect(("127.0.0.1", server.port))
        self.addCleanup(stuck.close)
        stuck.sendall(b"GET /stream HTTP/1.1\r\nHost: here\r\n\r\n")
        server.wait_status(lambda s: s["listeners"]["current"] == 2, "both listen")
        status = server.wait_status(lambda s: s["listeners"]["ended"]["timeout"] == 1,
                                    "the one that never reads is dropped", 60)
        self.assertEqual(status["listeners"]["current"], 1)
        judge.wait_bytes(len(judge.body) + 50 * 960)
        sound.decode(judge.hang_up(), self.folder)
        self.assertLess(abs(frames_lost_to_clock(judge.frame_times())), 1.5)
        self.stop(server)

    @takes(25)
    def test_200_come_and_go_and_the_judge_gets_every_byte(self):
        server = self.serve()
        judge = Listener(server.port)
        judge.wait_bytes(1)
        descriptors = open_descriptors(server.pid)
        dice = random.Random(17)
        selector = selectors.DefaultSelector()
        come = most = 0
        here = set()
        while come < 200 or here:
            if come < 200 and len(here) < 120:
                visitor = Visitor(server.port, dice)
                selector.register(visitor.socket, selectors.EVENT_READ, visitor)
                here.add(visitor)
                come += 1
            most = max(most, len(here))
            for key, _ in selector.select(0.01):
                visitor = key.data
                if visitor.read():
                    selector.unregister(visitor.socket)
                    visitor.leave()
                    visitor.judge()
                    here.discard(visitor)
            late = [v for v in here if time.monotonic() > v.deadline]
            self.assertEqual(late, [], "visitors that did not get what they waited for")
        status = server.wait_status(lambda s: s["listeners"]["current"] == 1,
                                    "only the judge is left")
        wait_until(lambda: open_descriptors(server.pid) <= descriptors,
                   "no descriptor is left open")
        self.assertEqual(status["listeners"]["accepted"], 201)
        self.assertEqual(status["listeners"]["refused"], 0)
        print(f"  at most {most} at once; peak in /status {status['listeners']['peak']}")
        self.assertGreater(most, 10)
        judge.wait_more_frames(40)
        mp3 = judge.hang_up()
        self.assertEqual(server.status()["listeners"]["skips"], 0)
        self.stop(server)
        heard = sound.decode(mp3, self.folder)
        # Every byte: frame after frame on the clock, and a tone without a break.
        self.assertLess(abs(frames_lost_to_clock(judge.frame_times())), 1.5)
        ups = sound.silences(sound.mono(heard)[9600:])
        self.assertLessEqual(len(ups), 1, "the grace at the start, if it was still on air")

    @takes(12)
    def test_all_listeners_hear_the_same_bytes(self):
        server = self.serve("--grace", "0")
        listeners = [Listener(server.port) for _ in range(5)]
        for listener in listeners:
            listener.wait_bytes(150 * 384)
        late = Listener(server.port)
        late.wait_bytes(150 * 384)
        for listener in listeners + [late]:
            listener.hang_up()
        self.stop(server)
        first = bytes(listeners[0].body)
        for listener in listeners[1:]:
            body = bytes(listener.body)
            # Each began at a frame of its own choice; from there on they are one stream.
            at = first.find(body[:40 * 384])
            if at < 0:
                at, first_here, body = body.find(first[:40 * 384]), body, first
            else:
                first_here = first
            self.assertGreaterEqual(at, 0, "the beginning of one is in the other")
            self.assertEqual(at % 384, 0)
            common = min(len(first_here) - at, len(body))
            self.assertEqual(first_here[at:at + common], body[:common])

    @takes(8)
    def test_a_new_listener_gets_two_seconds_at_once(self):
        server = self.serve()
        server.wait_status(lambda s: s["air"]["frames"] > 130, "three seconds were on air")
        listener = Listener(server.port)
        listener.wait_bytes(80 * 384)
        came = next(t for t, total in listener.arrivals if total >= 80 * 384)
        self.assertLess(came - listener.asked_at, 80 * FRAME_SECONDS / 2,
                        "80 frames came faster than they are played")
        self.assertIn("200", listener.header.split("\r\n")[0])
        listener.hang_up()
        self.stop(server)

    @takes(8)
    def test_burst_ms_0_gives_none(self):
        server = self.serve("--burst-ms", "0")
        server.wait_status(lambda s: s["air"]["frames"] > 100, "some seconds were on air")
        before = server.status()["air"]["frames"]
        listener = Listener(server.port)
        listener.wait_bytes(40 * 384)
        frames = len(mp3_frames(listener.hang_up())[0])
        after = server.status()["air"]["frames"]
        self.assertLessEqual(frames, after - before + 1)
        self.stop(server)

    @takes(6)
    def test_too_many_are_refused_with_503(self):
        server = self.serve("--max-listeners", "3")
        listeners = [Listener(server.port) for _ in range(3)]
        for listener in listeners:
            listener.wait_bytes(1)
        status, headers, body = server.get("/stream")
        self.assertEqual(status, 503, body)
        self.assertIn("retry-after", headers)
        listeners[0].hang_up()
        server.wait_status(lambda s: s["listeners"]["current"] == 2, "there is a place again")
        again = Listener(server.port)
        again.wait_bytes(1)
        self.assertEqual(again.status, 200)
        for listener in listeners[1:] + [again]:
            listener.hang_up()
        wait_until(lambda: server.status()["listeners"]["current"] == 0, "all are gone")
        self.stop(server)
