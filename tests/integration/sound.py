"""Audio for the tests, the independent decoders, and the measures."""
import os
import re
import subprocess
import wave

import numpy

RATE = 48000
FRAME_BYTES = 4608
# What mpg123 prints of a good stream: who it is, what it plays. Anything of these words is a fault.
MPG123_FAULT = re.compile(r"error|warning|illegal|resync|skipped|note:|junk|cannot|missing", re.I)


# ---- making ----

def tone(frequencies, seconds, peak=0.5, phase=0.0):
    """A chord of sines, as mono floats of -1 to 1; `peak` is the most it can reach."""
    time = numpy.arange(round(seconds * RATE)) / RATE
    waves = [numpy.sin(2 * numpy.pi * frequency * time + phase) for frequency in frequencies]
    return peak * sum(waves) / len(waves)


def stereo(left, right=None):
    """Floats to interleaved s16: an array of (n, 2)."""
    both = numpy.stack([left, left if right is None else right], axis=1)
    return numpy.clip(numpy.round(both * 32767), -32768, 32767).astype("<i2")


def speech(text, folder):
    path = os.path.join(folder, "speech.wav")
    at_rate = os.path.join(folder, "speech48.wav")
    subprocess.run(["espeak-ng", "-w", path, text], check=True, timeout=60)
    subprocess.run(["sox", path, "-r", str(RATE), "-c", "1", "-b", "16", at_rate], check=True,
                   timeout=60)
    return read_wav(at_rate)[:, 0] / 32768


def song(seconds, folder, seed=1):
    """Something like music, in which no two places are alike: chirps, noise bursts and speech."""
    random = numpy.random.default_rng(seed)
    count = round(seconds * RATE)
    time = numpy.arange(count) / RATE
    # Chirps: at every moment a frequency that has not been there before in quite this way.
    sweep = numpy.cumsum(300 + 40 * time + 250 * numpy.sin(2 * numpy.pi * 0.37 * time)) / RATE
    left = 0.25 * numpy.sin(2 * numpy.pi * sweep)
    right = 0.25 * numpy.sin(2 * numpy.pi * (1.5 * sweep + 0.1 * time * time))
    # Bursts of noise, low-passed so that 128 kbit/s carry them.
    noise = random.standard_normal(count)
    noise = numpy.convolve(noise, numpy.hanning(15) / numpy.hanning(15).sum(), mode="same")
    noise *= 0.12 / noise.std()
    gate = numpy.repeat(random.integers(0, 2, count // 4800 + 1), 4800)[:count]
    gate = numpy.convolve(gate, numpy.ones(480) / 480, mode="same")
    words = " ".join(f"This is the number {n}, and the {n * 7 % 31} of the day." for n in
                     range(int(seconds)))
    said = speech(words, folder)
    said = numpy.resize(said, count) * 0.35
    return stereo(left + noise * (0.3 + gate) + said, right + noise * (1.3 - gate) + said)


def write_wav(path, samples, rate=RATE):
    with wave.open(path, "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def read_wav(path):
    with wave.open(path, "rb") as file:
        data = numpy.frombuffer(file.readframes(file.getnframes()), "<i2")
        return data.reshape(-1, file.getnchannels())


def convert(source, target, *words):
    """Make `target` of `source` with ffmpeg, in the format its name says."""
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", source, *words, target],
                   check=True, timeout=60, stdin=subprocess.DEVNULL)
    return target


# ---- decoding ----

def decode_ffmpeg(mp3):
    """Decode with ffmpeg; anything it says is a failure. Returns an array of (n, 2)."""
    done = subprocess.run(
        ["nice", "-n", "5", "ffmpeg", "-nostdin", "-v", "error", "-f", "mp3", "-i", "pipe:0",
         "-f", "s16le", "-ac", "2", "-ar", str(RATE), "pipe:1"],
        input=mp3, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, check=False)
    assert done.returncode == 0 and not done.stderr, \
        f"ffmpeg, exit code {done.returncode}: {done.stderr.decode(errors='replace')}"
    return numpy.frombuffer(done.stdout, "<i2").reshape(-1, 2)


def decode_mpg123(mp3, folder):
    """The same with mpg123, which shares no code with ffmpeg."""
    path, out = os.path.join(folder, "heard.mp3"), os.path.join(folder, "heard.wav")
    with open(path, "wb") as file:
        file.write(mp3)
    done = subprocess.run(["nice", "-n", "5", "mpg123", "--no-gapless", "-w", out, path],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=120, check=False)
    said = done.stderr.decode(errors="replace")
    assert done.returncode == 0 and not MPG123_FAULT.search(said), \
        f"mpg123, exit code {done.returncode}: {said}"
    return read_wav(out)


def decode(mp3, folder):
    """Decode with both, which must agree on the length; returns ffmpeg's samples."""
    heard = decode_ffmpeg(mp3)
    by_mpg123 = decode_mpg123(mp3, folder)
    assert len(heard) == len(by_mpg123), f"{len(heard)} samples, mpg123 made {len(by_mpg123)}"
    return heard


# ---- measuring ----

def mono(samples):
    return samples.astype(numpy.float64).sum(axis=1) / 2


def correlate(needle, haystack):
    """Normalised cross-correlation. Returns (place, coefficient) of the best fit."""
    needle = needle - needle.mean()
    size = 1 << int(numpy.ceil(numpy.log2(len(haystack) + len(needle))))
    product = numpy.fft.irfft(numpy.fft.rfft(haystack, size) *
                              numpy.conj(numpy.fft.rfft(needle, size)), size)
    places = len(haystack) - len(needle) + 1
    sums = numpy.concatenate([[0], numpy.cumsum(haystack)])
    squares = numpy.concatenate([[0], numpy.cumsum(haystack * haystack)])
    window = len(needle)
    mean = (sums[window:] - sums[:-window]) / window
    energy = squares[window:] - squares[:-window] - window * mean * mean
    # Where there is next to nothing, nothing fits.
    floor = 1e-4 * (needle * needle).sum() + 1e-9
    fit = product[:places] / numpy.sqrt((needle * needle).sum() * numpy.maximum(energy, floor))
    best = int(numpy.argmax(fit))
    return best, float(fit[best])


def follow(original, heard, window_seconds=0.1, search_seconds=0.04, near=0):
    """Where each window of `original` (mono) is in `heard` (mono).

    The first seconds are looked for everywhere from sample `near` on, the rest within
    `search_seconds` of where they must then be. Returns a list of (second in the original, lag in
    samples, coefficient); a window that is not all there has the coefficient 0.
    """
    window, search = round(window_seconds * RATE), round(search_seconds * RATE)
    start, _ = correlate(original[:min(len(original), 3 * RATE)], heard[near:])
    start += near
    found = []
    for at in range(0, len(original) - window + 1, window):
        low = start + at - search
        piece = heard[max(low, 0):start + at + window + search]
        if len(piece) < window:
            found.append((at / RATE, 0, 0.0))
            continue
        place, fit = correlate(original[at:at + window], piece)
        found.append((at / RATE, max(low, 0) + place - at, fit))
    # The last samples too, where the length is no whole number of windows.
    at = len(original) - window
    if at > 0 and at % window:
        low = start + at - search
        piece = heard[max(low, 0):start + at + window + search]
        place, fit = correlate(original[at:], piece) if len(piece) >= window else (0, 0.0)
        found.append((at / RATE, max(low, 0) + place - at, fit))
    return found


def assert_same_music(original, heard, least=0.9, slack=2, near=0, **options):
    """All of `original` is in `heard`, in order, at the right speed, nothing lost or added."""
    found = follow(mono(original), mono(heard), near=near, **options)
    lags = [lag for _, lag, _ in found]
    usual = int(numpy.median(lags))
    bad = [(round(at, 2), lag - usual, round(fit, 3)) for at, lag, fit in found
           if abs(lag - usual) > slack or fit < least]
    assert not bad, (f"{len(bad)} of {len(found)} windows are not where they must be "
                     f"(second, samples off, fit): {bad[:12]}")
    return usual, min(fit for _, _, fit in found)


def frequency_of(samples):
    """The strongest frequency in mono samples, in Hz."""
    samples = samples - samples.mean()
    spectrum = numpy.abs(numpy.fft.rfft(samples * numpy.hanning(len(samples))))
    best = int(numpy.argmax(spectrum[1:-1])) + 1
    left, here, right = numpy.log(spectrum[best - 1:best + 2] + 1e-12)
    offset = 0.5 * (left - right) / (left - 2 * here + right)
    return float((best + offset) * RATE / len(samples))


def strength_of(samples, frequency):
    """The amplitude of one frequency in mono samples, in the samples' own unit."""
    time = numpy.arange(len(samples)) / RATE
    window = numpy.hanning(len(samples))
    return float(2 * abs((samples * window * numpy.exp(-2j * numpy.pi * frequency * time)).sum()) /
                 window.sum())


def largest_step(samples):
    """The largest step between neighbouring samples of either channel."""
    return int(numpy.abs(numpy.diff(samples.astype(numpy.int32), axis=0)).max(initial=0))


def rms_by_window(samples, window_seconds=0.01):
    """RMS of mono samples in windows, for finding what is silent."""
    window = round(window_seconds * RATE)
    count = len(samples) // window
    return numpy.sqrt((samples[:count * window].reshape(count, window) ** 2).mean(axis=1))


def silences(samples, least_seconds=0.3, below=20.0):
    """(begin, end), in samples, of every stretch of mono samples that is silent."""
    window = round(0.005 * RATE)
    quiet = rms_by_window(samples, 0.005) < below
    edges = numpy.flatnonzero(numpy.diff(numpy.concatenate([[0], quiet, [0]]).astype(int)))
    return [(begin * window, end * window) for begin, end in zip(edges[::2], edges[1::2])
            if (end - begin) * window >= least_seconds * RATE]
