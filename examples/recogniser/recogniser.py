#!/usr/bin/env python3
"""Reads the programme as a speech recogniser would, from /pcm, and prints when somebody spoke.

    recogniser.py [http://127.0.0.1:8005]

Only the standard library. Put your recogniser where `level_dbfs` is called: it gets 1600 samples of
16 kHz mono, ten times a second, and knows when each was on air.
"""
import array
import datetime
import math
import struct
import sys
import time
import urllib.request

HEADER = struct.Struct("<4sHBBQqQII")
JUMP = 1
RATE = 16000
SPEECH_DBFS = -40.0
HOLD_CHUNKS = 5  # quiet for so long ends a segment: pauses between words do not


def chunks(base):
    """Yields (does it follow on, ns of CLOCK_REALTIME, MP3 frame, samples), and connects again."""
    url = f"{base}/pcm?rate={RATE}&channels=1&samples={RATE // 10}&timestamps=1"
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                while len(header := answer.read(HEADER.size)) == HEADER.size:
                    magic, _, _, flags, _, time_ns, frame, _, size = HEADER.unpack(header)
                    body = answer.read(size)
                    if magic != b"TPCM" or len(body) < size:
                        break
                    samples = array.array("h", body)
                    if sys.byteorder == "big":
                        samples.byteswap()
                    yield not flags & JUMP, time_ns, frame, samples
        except OSError as error:
            print(f"recogniser: {url}: {error}; trying again", file=sys.stderr)
        time.sleep(0.5)


def level_dbfs(samples):
    return 10 * math.log10(sum(s * s for s in samples) / len(samples) / 32768 ** 2 + 1e-12)


def clock(time_ns):
    return datetime.datetime.fromtimestamp(time_ns / 1e9).strftime("%H:%M:%S.%f")[:-3]


def print_segment(begin_ns, end_ns, frame, loudest):
    print(f"{clock(begin_ns)} to {clock(end_ns)}  frame {frame}  "
          f"{(end_ns - begin_ns) / 1e9:.1f} s  {loudest:.1f} dBFS", flush=True)


def main(base):
    segment = None
    quiet = 0
    for follows, time_ns, frame, samples in chunks(base):
        # Where a chunk does not follow on, a recogniser begins anew.
        if segment and (not follows or quiet >= HOLD_CHUNKS):
            print_segment(*segment)
            segment = None
        dbfs = level_dbfs(samples)
        quiet = quiet + 1 if dbfs < SPEECH_DBFS else 0
        if quiet:
            continue
        if not segment:
            segment = [time_ns, 0, frame, dbfs]
        segment[1] = time_ns + len(samples) * 10**9 // RATE
        segment[3] = max(segment[3], dbfs)


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8005")
    except KeyboardInterrupt:
        pass
