"""SIGTERM and SIGINT: stopped within 2 s, in order, with the last bytes gone out."""
import os
import signal
import socket

from harness import TowerTestCase, process_exists, takes, wait_until
from listening import Listener, mp3_frames
import sound


class TestStop(TowerTestCase):
    def judge_stop(self, number, *flags):
        server = self.serve("--grace", "0", *flags)
        listeners = [Listener(server.port) for _ in range(10)]
        for listener in listeners:
            listener.wait_bytes(384 * 90)
        # One more that does not read, and must hold up nobody.
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        stuck.connect(("127.0.0.1", server.port))
        self.addCleanup(stuck.close)
        stuck.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        feeder = self.produce(server)
        feeder.start_sending([sound.stereo(sound.tone([500], 20)).tobytes()])
        server.wait_origin("live")
        self.stop(server, number)
        for listener in listeners:
            listener.wait_ended()
            self.assertEqual(listener.ending, "closed", "an orderly end")
            _, end = mp3_frames(listener.body)
            self.assertEqual(end, len(listener.body), "the stream ends with a whole frame")
        # All got the same last frame.
        self.assertEqual(len({bytes(listener.body[-384 * 8:]) for listener in listeners}), 1)
        sound.decode(bytes(listeners[0].body), self.folder)
        self.assertFalse(os.path.exists(server.socket_path), "the socket file is gone")
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", server.port))  # the port is free

    @takes(8)
    def test_sigterm(self):
        self.judge_stop(signal.SIGTERM)

    @takes(8)
    def test_sigint(self):
        self.judge_stop(signal.SIGINT)

    @takes(10)
    def test_sigterm_with_ffmpeg(self):
        self.judge_stop(signal.SIGTERM, "--encoder", "ffmpeg")

    def test_stopped_as_soon_as_started(self):
        for _ in range(5):
            self.stop(self.serve())

    @takes(6)
    def test_a_second_signal_ends_it_at_once(self):
        server = self.serve()
        pid = server.pid
        server.kill(signal.SIGTERM)
        server.kill(signal.SIGTERM)
        server.wait(10)
        wait_until(lambda: not process_exists(pid), "it is gone")
