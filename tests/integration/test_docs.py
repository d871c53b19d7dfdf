"""README and manual against the program: word by word, where they say what it prints and takes."""
import os
import re

from harness import ROOT, TowerTestCase, takes


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


class TestReadme(TowerTestCase):
    def test_the_banner(self):
        server = self.serve()
        printed = server.stdout()
        shown = re.search(r"^```\n(Tower .*?)^```", read("README.md"), re.M | re.S).group(1)

        def plain(text):
            text = re.sub(r"(http://127\.0\.0\.1:)\d+", r"\1PORT", text)
            text = re.sub(r"\S+ feed (--socket \S+ )?song", "TOWER feed song", text)
            return re.sub(r"\S+/[\w.]+\.sock", "SOCKET", text)
        self.assertEqual(plain(shown), plain(printed))
        self.stop(server)

    def test_the_settings(self):
        text = self.tower("serve", "--help").stdout()
        settings = re.findall(r"^  (--\S+ \S+)\n      (.*)\n      (TOWER_\w+); \w+; default (.*)$",
                              text, re.M)
        self.assertGreater(len(settings), 15)
        section = read("README.md").split("## Settings")[1].split("\n## ")[0]
        rows = re.findall(r"^\| `(--.*?)` \| `(.*?)` \| (.*?) \| (.*?) \|$", section, re.M)
        rows = [(flag.replace("\\|", "|"), words, variable, default.replace("<br>", " "))
                for flag, variable, default, words in rows]
        self.assertEqual(rows, settings)


class TestManual(TowerTestCase):
    @takes(6)
    def test_it_has_every_flag_of_every_command(self):
        manual = read("man/tower.1")
        for command in ("feed", "aircheck", "tap", "status", "switch"):
            section = manual.split(f".Ss tower {command}")[1]
            section = re.split(r"^\.S[sh] ", section, maxsplit=1, flags=re.M)[0]
            told = set(re.findall(r"^\.It Fl -(\S+)", section, re.M))
            helped = set(re.findall(r"^ +--([a-z-]+)", self.tower(command, "--help").stdout(),
                                    re.M))
            self.assertEqual(told, helped - {"help"}, command)
            synopsis = re.search(rf"^\.Cm {command}\n(.*?)^\.(Nm|Sh)", manual, re.M | re.S).group(1)
            self.assertEqual(set(re.findall(r"Fl -(\S+)", synopsis)), told, command)
