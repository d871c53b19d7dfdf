"""An ffmpeg that works for a while and then goes bad.

    bad_ffmpeg.py HOW ARGUMENT...      runs ffmpeg ARGUMENT..., passes its audio through, then HOW
"""
import os
import subprocess
import sys
import threading
import time

GOOD_BYTES = 30 * 384  # 0.7 s at 128 kbit/s: it is on air by then
HOW = sys.argv[1]


def live_on():
    while True:
        time.sleep(1000)


def write_all(fd, data):
    while data:
        data = data[os.write(fd, data):]


real = subprocess.Popen(["ffmpeg", *sys.argv[2:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
is_bad = threading.Event()


def pass_pcm():
    """stdin to the real ffmpeg, or to nobody."""
    while not (is_bad.is_set() and HOW in ("stops reading", "closes stdin")):
        data = os.read(0, 4608)
        if not data:
            os._exit(0)
        if not is_bad.is_set():
            write_all(real.stdin.fileno(), data)
    if HOW == "closes stdin":
        os.close(0)


threading.Thread(target=pass_pcm, daemon=True).start()
passed = 0
while passed < GOOD_BYTES:
    mp3 = os.read(real.stdout.fileno(), 4096)
    passed += len(mp3)
    write_all(1, mp3)
if HOW == "exits":
    os._exit(3)
if HOW == "writes too much":
    while True:
        write_all(1, os.read(real.stdout.fileno(), 4096) * 2)
is_bad.set()
if HOW == "closes stdout":
    os.close(1)
elif HOW == "writes garbage":
    # Bytes of a frame's header among them, as chance would have it.
    write_all(1, b"\xff\xfb\x90 this is no MP3 \xff\xfb\x94\xc4" * 100)
live_on()
