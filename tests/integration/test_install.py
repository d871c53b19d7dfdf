"""What `meson install` puts in place is enough to build and run a program against libtower."""
import glob
import json
import os
import re
import shutil
import signal
import subprocess

from harness import BUILD, ROOT, TowerTestCase, takes
from listening import Listener
import sound


class TestInstall(TowerTestCase):
    def setUp(self):
        super().setUp()
        self.root = self.path("root")
        self.done("meson", "install", "-C", BUILD, "--destdir", self.root, "--no-rebuild", "--quiet")
        package = self.find("pkgconfig/libtower.pc")
        self.library_path = os.path.dirname(self.find("lib*/**/libtower.so"))
        self.environment = {"PKG_CONFIG_PATH": os.path.dirname(package),
                            "PKG_CONFIG_SYSROOT_DIR": self.root,
                            "LD_LIBRARY_PATH": self.library_path}

    def find(self, name):
        found = glob.glob(f"{self.root}/**/{name}", recursive=True)
        self.assertEqual(len(found), 1, (name, found))
        return found[0]

    def done(self, *command, **options):
        """Run it to its end, which must be a good one; returns what it wrote to stdout."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False,
                              **options)
        self.assertEqual(done.returncode, 0, (command, done.stdout, done.stderr))
        return done.stdout

    def flags(self, *words):
        return self.done("pkg-config", *words, "libtower",
                         env={**os.environ, **self.environment}).split()

    def sanitizer_flags(self):
        """A program that links a library with a sanitizer in it needs the same one."""
        with open(os.path.join(BUILD, "meson-info/intro-buildoptions.json"),
                  encoding="utf-8") as file:
            options = {option["name"]: option["value"] for option in json.load(file)}
        kind = options["b_sanitize"]
        return [] if kind == "none" else [f"-fsanitize={kind}"]

    def test_program_manual_and_version(self):
        program = self.find("bin/tower")
        self.assertTrue(os.access(program, os.X_OK))
        said = self.done(program, "--version")
        self.assertEqual(said, f"tower {self.flags('--modversion')[0]}\n")
        manual = self.find("man1/tower.1*")
        with open(manual, encoding="utf-8") as file:
            self.assertIn("Dt TOWER 1", file.read())

    def test_units_run_the_program(self):
        with open(self.find("systemd/system/tower.service"), encoding="utf-8") as file:
            unit = file.read()
        program = re.search(r"(?m)^ExecStart=(\S+) serve$", unit).group(1)
        self.assertEqual(self.root + program, self.find("bin/tower"))
        for name in (self.find("systemd/system/tower.socket"), self.find("sysusers.d/tower.conf")):
            self.assertEqual(os.stat(name).st_mode & 0o777, 0o644)
        with open(self.find("sysusers.d/tower.conf"), encoding="utf-8") as file:
            users = re.findall(r"(?m)^[ug] (\S+)", file.read())
        with open(self.find("systemd/system/tower.socket"), encoding="utf-8") as file:
            groups = re.findall(r"(?m)^SocketGroup=(\S+)", file.read())
        for user in re.findall(r"(?m)^(?:User|Group)=(\S+)", unit) + groups:
            self.assertIn(user, users)

    @takes(12)
    def test_the_example_builds_and_is_on_air(self):
        shutil.copy(os.path.join(ROOT, "examples/producer.c"), self.folder)
        self.done("cc", "producer.c", "-o", "producer", *self.sanitizer_flags(),
                  *self.flags("--cflags", "--libs"), "-lm", cwd=self.folder)
        server = self.serve("--grace", "0", "--tone-frequency", "0")
        listener = Listener(server.port)
        producer = self.start("./producer", environment={
            **self.environment, "TOWER_SOCKET_PATH": server.socket_path})
        before = server.wait_origin("live")["frames_by_origin"]["live"]
        server.wait_status(lambda s: s["frames_by_origin"]["live"] > before + 60,
                           "it was on air for a second and a half")
        with open(f"/proc/{producer.pid}/maps", encoding="utf-8") as maps:
            self.assertIn(os.path.realpath(self.library_path), maps.read(), "the library is ours")
        listener.wait_more_frames(20)
        heard = sound.mono(sound.decode(listener.hang_up(), self.folder))
        self.assertAlmostEqual(sound.frequency_of(heard[-24000:]), 440, delta=1)
        producer.kill(signal.SIGTERM)
        producer.wait()
        self.stop(server)

    @takes(20)
    def test_each_header_stands_on_its_own(self):
        cflags = self.flags("--cflags")
        headers = sorted(os.path.basename(path)
                         for path in glob.glob(os.path.join(ROOT, "include/tower/*.h")))
        installed = sorted(os.path.basename(path)
                           for path in glob.glob(f"{self.root}/**/include/tower/*.h",
                                                 recursive=True))
        self.assertEqual(installed, headers)
        with open(self.find("include/tower/tower.h"), encoding="utf-8") as file:
            included = re.findall(r'^#include "tower/(\w+\.h)"', file.read(), re.M)
        self.assertEqual(sorted(included + ["tower.h"]), headers, "tower.h includes them all")
        strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", *cflags]
        for header in headers:
            line = f"#include <tower/{header}>\n"
            self.done("cc", "-std=c11", *strict, "-x", "c", "-", input=line)
        # Those with C's atomics in them are for C alone; a producer may be in C++.
        self.done("clang", *strict, "-x", "c++", "-",
                  input='extern "C" {\n#include <tower/producer.h>\n}\n'
                        'int main() { tower_producer_close(nullptr, 0); }\n')
