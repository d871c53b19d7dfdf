"""Every example, as it stands in examples/, against a transmitter, and heard on its stream."""
import glob
import os
import re
import signal
import subprocess

import harness
from harness import ROOT, TowerTestCase, takes
from listening import Listener
import sound

README = os.path.join(ROOT, "examples/README.md")
SONG_HZ = 1000


def commands_in(text):
    """The shell commands of a README: lines of its code blocks, continued lines joined."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    blocks += re.findall(r"(?:^ {4}.*\n)+", text, re.M)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if line.strip()]


class TestExamples(TowerTestCase):
    def setUp(self):
        super().setUp()
        # The default socket path leads here, so that the lines work as they stand.
        self.environment = {"XDG_RUNTIME_DIR": self.folder}
        wave = sound.stereo(sound.tone([SONG_HZ], 8, 0.4))
        song = sound.write_wav(self.path("song.wav"), wave)
        for kind in ("mp3", "flac", "ogg", "m4a"):
            sound.convert(song, self.path(f"song.{kind}"))
        wave.tofile(self.path("song.raw"))
        wave.tofile(self.path("song.pcm"))

    def judge(self, server, listener, program, text):
        """Its tone is on air as live audio, and the listener hears it."""
        before = server.wait_origin("live")["frames_by_origin"]["live"]
        server.wait_status(lambda s: s["frames_by_origin"]["live"] > before + 60,
                           f"{program.name} was on air for a second and a half")
        listener.wait_more_frames(20)
        status = server.status()
        heard = sound.mono(sound.decode(listener.hang_up(), self.folder))
        # The half second with the most in it: before and after there is silence.
        starts = range(0, len(heard) - 24000, 2400)
        loudest = max(starts, key=lambda at: (heard[at:at + 24000] ** 2).sum())
        heard = heard[loudest:loudest + 24000]
        frequency = sound.frequency_of(heard)
        print(f"  {text[:90]}: {frequency:.1f} Hz")
        self.assertGreater(sound.strength_of(heard, frequency), 1000)
        is_told = any(abs(float(number) - frequency) < 2
                      for number in re.findall(r"\d+(?:\.\d+)?", text))
        self.assertTrue(is_told or ("song" in text and abs(frequency - SONG_HZ) < 2),
                        f"{frequency} Hz is on air, which is not in {text}")
        self.assertEqual(status["router"]["overflow_count"], 0)

    def run_lines(self, first_word):
        with open(README, encoding="utf-8") as file:
            commands = [line for line in commands_in(file.read())
                        if re.search(rf"(^|[|;&(] *){first_word}\d?(\s|$)", line)]
        self.assertTrue(commands, f"examples/README.md has a line with {first_word}")
        for command in commands:
            server = self.serve("--grace", "0", "--tone-frequency", "0",
                                environment=self.environment)
            listener = Listener(server.port)
            here = command.replace("/run/tower/pcm.sock", server.socket_path)
            program = self.start("sh", "-c", here, name=first_word, environment={
                **self.environment, "TOWER_SOCKET_PATH": server.socket_path})
            self.judge(server, listener, program, command)
            self.end_family(program)
            self.stop(server)

    @staticmethod
    def end_family(program):
        """End a shell and what it runs."""
        family = [program.pid]
        for pid in family:
            family += harness.children_of(pid)
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        program.wait()
        # Orphans of the shell have become this process's children (see run).
        for pid in family[1:]:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass

    @takes(9)
    def test_ffmpeg_line(self):
        self.run_lines("ffmpeg")

    @takes(9)
    def test_sox_line(self):
        self.run_lines("sox")

    @takes(9)
    def test_python_line(self):
        self.run_lines("python")

    @takes(9)
    def test_c_producer(self):
        sources = glob.glob(os.path.join(ROOT, "examples/*.c"))
        self.assertTrue(sources, "there is an example in C")
        for source in sources:
            with open(source, encoding="utf-8") as file:
                text = file.read()
            self.assertLess(len(text.splitlines()), 40, source)
            server = self.serve("--grace", "0", "--tone-frequency", "0",
                                environment=self.environment)
            for words in ([], ["-"]):
                listener = Listener(server.port)
                with open(self.path("song.raw"), "rb") as raw:
                    program = self.start(self.built(source), *words, name="c-example", stdin=raw,
                                         environment={**self.environment,
                                                      "TOWER_SOCKET_PATH": server.socket_path})
                self.judge(server, listener, program, "song" if words else text)
                program.kill(signal.SIGTERM)
                program.wait()
                server.wait_origin("silence")
            self.stop(server)

    def built(self, source):
        """Where Meson has put it; the release build leaves no example out."""
        name = os.path.basename(source)[:-2]
        for place in ("examples/example-" + name, "examples/" + name):
            path = os.path.join(harness.BUILD, place)
            if os.access(path, os.X_OK) and os.path.isfile(path):
                return path
        # The build folder is another's: build it here, as a user would, against libtower.
        path = self.path(name)
        subprocess.run(["cc", "-o", path, source, "-I", os.path.join(ROOT, "include"),
                        "-L", harness.BUILD, "-ltower", "-lm", f"-Wl,-rpath,{harness.BUILD}"],
                       check=True, timeout=60)
        return path
