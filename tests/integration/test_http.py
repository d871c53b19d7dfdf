"""What the addresses answer, also to clients that are old, slow or wrong."""
import json
import socket
import time

from harness import TowerTestCase, takes, wait_until
from listening import Listener, mp3_frames


class TestHttp(TowerTestCase):
    def setUp(self):
        super().setUp()
        self.server = self.serve()

    def tearDown(self):
        self.stop(self.server)

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.server.port), timeout=20)
        self.addCleanup(connection.close)
        return connection

    def talk(self, request, until=None):
        """Send bytes, read until the server closes or `until` is in what came."""
        connection = self.connect()
        connection.sendall(request)
        return self.read(connection, until)

    @staticmethod
    def read(connection, until=None):
        data = b""
        while until is None or until not in data:
            piece = connection.recv(65536)
            if not piece:
                break
            data += piece
        return data

    def test_the_stream_header(self):
        for path in ("/stream", "/stream.mp3", "/stream?from=radio"):
            listener = Listener(self.server.port, path)
            listener.wait_bytes(1000)
            listener.hang_up()
            header = listener.header.lower()
            self.assertEqual(listener.status, 200, path)
            self.assertIn("content-type: audio/mpeg", header)
            self.assertIn("no-cache", header)
            self.assertNotIn("content-length", header)
            self.assertNotIn("transfer-encoding", header, "it ends when the connection does")
            mp3_frames(listener.body)

    def test_http_1_0_client(self):
        data = self.talk(b"GET /stream HTTP/1.0\r\n\r\n", b"\xff\xfb")
        self.assertRegex(data.split(b"\r\n")[0], rb"^HTTP/1\.[01] 200 ")
        self.assertNotIn(b"chunked", data.lower())
        data = self.talk(b"GET /livez HTTP/1.0\r\n\r\n")
        self.assertRegex(data.split(b"\r\n")[0], rb"^HTTP/1\.[01] 200 ")  # and it was closed

    def test_head_is_the_header_alone(self):
        for path in ("/stream", "/stream.mp3", "/status", "/livez", "/readyz", "/tower/buffer"):
            data = self.talk(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                             .encode())
            header, _, body = data.partition(b"\r\n\r\n")
            self.assertTrue(header.startswith(b"HTTP/1.1 200"), (path, header))
            self.assertEqual(body, b"", path)
        self.assertIn(b"audio/mpeg", self.talk(b"HEAD /stream HTTP/1.1\r\nHost: x\r\n"
                                               b"Connection: close\r\n\r\n"))
        self.assertEqual(self.server.status()["listeners"]["accepted"], 0)

    def test_tower_buffer(self):
        status, headers, body = self.server.get("/tower/buffer")
        self.assertEqual(status, 200)
        self.assertTrue(headers["content-type"].startswith("application/json"))
        buffer = json.loads(body)
        self.assertEqual(buffer["count"], 0)
        self.assertEqual(buffer["fill"], buffer["count"])
        self.assertEqual(buffer["capacity"], 100)
        self.assertEqual(buffer["overflow_count"], 0)
        self.assertEqual(buffer["ratio"], 0)

    @takes(6)
    def test_tower_buffer_fills(self):
        producer = self.produce(self.server)
        producer.start_sending([b"\1" * 4608 * 400])
        self.server.wait_origin("live")

        def is_full():
            buffer = json.loads(self.server.get("/tower/buffer")[2])
            self.assertEqual(buffer["fill"], buffer["count"])
            self.assertLessEqual(buffer["count"], 100)
            self.assertAlmostEqual(buffer["ratio"], buffer["count"] / 100, delta=0.001)
            return buffer["count"] > 90
        wait_until(is_full, "the buffer is nearly full")

    def test_status(self):
        status, headers, body = self.server.get("/status")
        self.assertEqual(status, 200)
        self.assertTrue(headers["content-type"].startswith("application/json"))
        state = json.loads(body)
        for key in ("state", "origin", "uptime_seconds", "ticks", "frames_by_origin", "encoder",
                    "producers", "router", "listeners"):
            self.assertIn(key, state)
        for key in ("due", "emitted", "late"):
            self.assertIn(key, state["ticks"])
        self.assertEqual(state["state"], "on air")
        self.assertEqual(set(state["frames_by_origin"]),
                         {"live", "grace", "file", "tone", "silence", "repair"})
        self.assertEqual(state["encoder"]["kind"], "lame")
        self.assertEqual(state["ticks"]["emitted"], sum(state["frames_by_origin"].values()))

    def test_livez_and_readyz(self):
        for path in ("/livez", "/readyz"):
            status, _, body = self.server.get(path)
            self.assertEqual(status, 200)
            self.assertTrue(body)

    def test_404_says_what_was_wrong(self):
        status, _, body = self.server.get("/steam")
        self.assertEqual(status, 404)
        self.assertIn(b"/steam", body)
        self.assertIn(b"/stream", body, "and what there is")

    def test_405_says_what_is_allowed(self):
        for method in ("POST", "PATCH", "DELETE"):
            status, headers, body = self.server.get("/stream", method)
            self.assertEqual(status, 405, method)
            self.assertIn("GET", headers["allow"])
            self.assertTrue(body)

    def test_400_says_what_was_wrong(self):
        for request in (b"HELLO\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
                        b"GET /stream HTTP/1.1\r\nno colon here\r\n\r\n",
                        b"GET /stream HTTP/9.9\r\n\r\n"):
            data = self.talk(request)
            self.assertRegex(data.split(b"\r\n")[0], rb"^HTTP/1\.[01] (400|501|505) ", request)
            self.assertTrue(data.partition(b"\r\n\r\n")[2], "a body says what was wrong")

    def test_a_header_without_end_is_refused(self):
        connection = self.connect()
        connection.sendall(b"GET /stream HTTP/1.1\r\n")
        try:
            for _ in range(3000):
                connection.sendall(b"X-Padding: " + b"a" * 100 + b"\r\n")
        except OSError:
            pass  # it was closed before all was sent: refused
        try:
            answer = connection.recv(4096)
        except ConnectionResetError:
            answer = b""
        self.assertRegex(answer.split(b"\r\n")[0] or b"HTTP/1.1 431 ", rb" 4\d\d ")
        self.assertEqual(self.server.get("/livez")[0], 200)

    def test_a_request_byte_by_byte(self):
        connection = self.connect()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":
            connection.sendall(bytes([byte]))
            time.sleep(0.001)  # so that the bytes go one by one; nothing is waited for
        self.assertTrue(self.read(connection).startswith(b"HTTP/1.1 200"))

    def test_two_requests_on_one_connection(self):
        request = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
        connection = self.connect()
        for _ in range(2):
            connection.sendall(request)
            self.assertTrue(self.read(connection, b"alive").startswith(b"HTTP/1.1 200"))
        # And both at once.
        both = self.talk(request + b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.assertEqual(both.count(b"HTTP/1.1 200"), 2, both)

    def test_connections_that_say_nothing_stop_nobody(self):
        silent = [self.connect() for _ in range(40)]
        self.assertEqual(self.server.get("/livez")[0], 200)
        listener = Listener(self.server.port)
        listener.wait_bytes(1000)
        listener.hang_up()
        for connection in silent:
            connection.close()

    def test_the_players_ask_as_they_do(self):
        """VLC, browsers, curl: headers of all kinds change nothing."""
        for extra in ("Range: bytes=0-\r\n", "Icy-MetaData: 1\r\nUser-Agent: VLC/3.0.18\r\n",
                      "Accept: */*\r\nAccept-Encoding: gzip, deflate, br\r\n"):
            request = f"GET /stream HTTP/1.1\r\nHost: x\r\n{extra}\r\n"
            listener = Listener(self.server.port, request=request)
            listener.wait_bytes(1000)
            listener.hang_up()
            self.assertEqual(listener.status, 200, extra)
            self.assertNotIn("content-range", listener.header.lower())
            mp3_frames(listener.body)
        curl = self.start("curl", "-s", "-o", "curl.mp3", "--max-time", "1", self.server.url)
        self.assertEqual(curl.wait(), 28)  # its own time limit, and no other complaint
        with open(self.path("curl.mp3"), "rb") as file:
            mp3_frames(file.read())
