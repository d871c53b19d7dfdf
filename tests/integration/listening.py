"""A listener that notes what came and when, and the MP3 frames in it."""
import bisect
import socket
import threading
import time

from harness import wait_until

FRAME_SECONDS = 0.024
BITRATES = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320]
RATES = [44100, 48000, 32000]


class BrokenStream(AssertionError):
    pass


def mp3_frames(data):
    """Cut `data`, which must begin with a frame, into MPEG-1 Layer III frames.

    Returns the offset of each whole frame, and the offset after the last one. Anything else than a
    frame where one must begin, and a frame that borrows from those before it, is a BrokenStream.
    """
    offsets = []
    at = 0
    while at + 6 <= len(data):
        if data[at] != 0xFF or data[at + 1] & 0xFE != 0xFA:
            raise BrokenStream(f"no frame at byte {at} (frame {len(offsets)}): "
                               f"{bytes(data[at:at + 8]).hex()}")
        bitrate, rate = data[at + 2] >> 4, (data[at + 2] >> 2) & 3
        if bitrate in (0, 15) or rate == 3:
            raise BrokenStream(f"a bad header at byte {at}: {bytes(data[at:at + 4]).hex()}")
        size = 144000 * BITRATES[bitrate] // RATES[rate] + ((data[at + 2] >> 1) & 1)
        side = at + (4 if data[at + 1] & 1 else 6)
        if side + 2 <= len(data) and (data[side] << 1 | data[side + 1] >> 7) != 0:
            raise BrokenStream(f"frame {len(offsets)} is not self-contained")
        if at + size > len(data):
            break
        offsets.append(at)
        at += size
    return offsets, at


class Listener(threading.Thread):
    """Connects to /stream, and keeps every byte with its time of arrival."""

    def __init__(self, port, path="/stream", request=None, host="127.0.0.1"):
        super().__init__(daemon=True)
        self.socket = socket.create_connection((host, port), timeout=30)
        self.request = request or f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        self.header = None
        self.body = bytearray()
        self.arrivals = []  # (time, bytes of body by then)
        self.ending = None  # "closed": in order; else what was wrong
        self.asked_at = time.monotonic()
        self.start()

    def run(self):
        try:
            self.socket.sendall(self.request.encode("ascii"))
            head = b""
            while b"\r\n\r\n" not in head:
                piece = self.socket.recv(4096)
                if not piece:
                    raise OSError(f"no whole header came: {head!r}")
                head += piece
            header, _, rest = head.partition(b"\r\n\r\n")
            self._take(rest)
            self.header = header.decode("latin-1")
            while True:
                piece = self.socket.recv(65536)
                if not piece:
                    break
                self._take(piece)
            self.ending = "closed"
        except OSError as error:
            self.ending = repr(error)

    def _take(self, piece):
        if piece:
            self.body += piece
            self.arrivals.append((time.monotonic(), len(self.body)))

    @property
    def status(self):
        return int(self.header.split()[1])

    def wait_bytes(self, count, seconds=60.0):
        wait_until(lambda: len(self.body) >= count or self.ending,
                   f"a listener has {count} bytes", seconds)
        assert len(self.body) >= count, f"the stream ended after {len(self.body)}: {self.ending}"

    def wait_more_frames(self, count, seconds=60.0):
        """Wait for `count` frames more than there are now (at the default 128 kbit/s)."""
        self.wait_bytes(len(self.body) + count * 384, seconds)

    def hang_up_unjudged(self):
        """End listening to what need not begin with a frame."""
        if self.is_alive():
            try:
                self.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.join(10)
        self.socket.close()

    def hang_up(self):
        """End listening; returns the whole MP3 frames that came."""
        self.hang_up_unjudged()
        return self.whole_frames()

    def wait_ended(self, seconds=30.0):
        self.join(seconds)
        assert not self.is_alive(), "the listener's stream did not end"
        self.socket.close()

    def whole_frames(self):
        _, end = mp3_frames(self.body)
        return bytes(self.body[:end])

    def frame_times(self):
        """When the last byte of each whole frame arrived."""
        offsets, end = mp3_frames(self.body)
        ends = offsets[1:] + [end]
        totals = [total for _, total in self.arrivals]
        return [self.arrivals[bisect.bisect_left(totals, byte)][0] for byte in ends]


def prompt_frames(times, edge_seconds=5.0):
    """The frame that came with the least delay near the beginning, and the one near the end.

    A machine with other work only ever makes an arrival later, so the promptest frames tell the
    transmitter's own clock. Returns ((index, time), (index, time)). The first burst, which comes
    ahead of its time, is taken off.
    """
    burst_end = next(i for i in range(len(times)) if times[i] > times[0] + 0.5)
    lag = {i: times[i] - i * FRAME_SECONDS for i in range(burst_end, len(times))}
    early = [i for i in lag if times[i] < times[burst_end] + edge_seconds]
    late = [i for i in lag if times[i] > times[-1] - edge_seconds]
    first, last = min(early, key=lag.get), min(late, key=lag.get)
    return (first, times[first]), (last, times[last])


def frames_lost_to_clock(times):
    """How many frames fewer came than the wall clock asks for; a fraction, since it measures."""
    (first, first_time), (last, last_time) = prompt_frames(times)
    return (last_time - first_time) / FRAME_SECONDS - (last - first)
