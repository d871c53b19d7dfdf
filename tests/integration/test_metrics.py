"""/metrics as Prometheus itself sees it, and what is built on it: alerts, dashboard, the page."""
import json
import os
import re
import socket
import subprocess
import urllib.parse
import urllib.request

from harness import HERE, ROOT, TowerTestCase, takes, wait_until
from listening import Listener

ALERTS = os.path.join(ROOT, "packaging/prometheus-alerts.yml")
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def read(*names):
    with open(os.path.join(ROOT, *names), encoding="utf-8") as file:
        return file.read()


def parse(text):
    """{(name, label values in order): number}"""
    samples = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, labels, value = SAMPLE.match(line).groups()
        key = name, tuple(value for _, value in LABEL.findall(labels or ""))
        assert key not in samples, line
        samples[key] = float(value)
    return samples


def metrics(server):
    status, headers, body = server.get("/metrics")
    assert status == 200, f"/metrics answered {status}: {body!r}"
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8", headers
    return parse(body.decode())


# What a metric is times its field, where that has another unit.
FACTORS = {"bitrate_bps": 1 / 8, "frame_samples": 1 / 48000, "ticks.lateness_us.max": 1e-6}


def field(status, path):
    for name in path.split("."):
        status = status[name]
    return float("nan") if status is None else status


def on_air(status):
    return [each for each in status["producers"]["list"] if each["on_air"]]


def clock(name, otherwise):
    def find(status):
        there = ((on_air(status) or [{}])[0].get("clock") or {}).get(name)
        return otherwise if there is None else there
    return find


def named(of_state):
    """What the first sample of a metric by name says: of the producer connected longest."""
    def find(status):
        producers = status["producers"]["list"]
        return sum(of_state(each) for each in producers if each["name"] == producers[0]["name"])
    return find


def has_free_labels(name):
    """Are the values of its labels not known beforehand?"""
    return name.endswith(("_info", "_named", "_thrown_bytes"))


# Where a metric is more than the value of a field.
SPECIAL = {
    ("tower_build_info", None): lambda s: 1,
    ("tower_station_info", None): lambda s: 1,
    ("tower_encoder_child_running", None): lambda s: s["encoder"]["child_pid"] != 0,
    ("tower_listeners", "sending"):
        lambda s: s["listeners"]["current"] - s["listeners"]["blocked"],
    ("tower_producers", "on air"): lambda s: len(on_air(s)),
    ("tower_producers", "waiting"):
        lambda s: sum(each["state"] == "waiting" for each in s["producers"]["list"]),
    ("tower_producers", "idle"):
        lambda s: sum(each["state"] == "idle" for each in s["producers"]["list"]),
    ("tower_producers_named", None): named(lambda each: each["state"] == "on air"),
    ("tower_producers_thrown_bytes", None): named(lambda each: each["thrown_bytes"]),
    ("tower_producers_on_air_seconds", None):
        lambda s: on_air(s)[0]["since_seconds"] if on_air(s) else float("nan"),
    ("tower_producers_chosen", None): lambda s: s["producers"]["chosen"] is not None,
    ("tower_producers_data_age_seconds", None):
        lambda s: on_air(s)[0]["seconds_since_data"] if on_air(s) else float("nan"),
    ("tower_producers_clock_ppm", None): clock("ppm", float("nan")),
    ("tower_producers_clock_spread_ppm", None): clock("spread_ppm", float("nan")),
    ("tower_producers_clock_correction_ppm", None): clock("correction_ppm", float("nan")),
    ("tower_producers_clock_out_of_range", None): clock("out_of_range", 0),
    ("tower_producers_overruns", None): clock("overruns", 0),
    ("tower_title_from_frame", None):
        lambda s: s["title"]["from_frame"] if s["title"] else float("nan"),
}


def expected():
    """{(metric, label value or None): the function that finds it in /status}, by doc/metrics.md"""
    found = {}
    rows = re.findall(r"^\| `(tower_\w+)` \| (\w+) \|[^|]*\|([^|]*)\|([^|]*)\|[^|]*\|$",
                      read("doc/metrics.md"), re.M)
    assert len(rows) > 50
    for name, kind, labels, fields in rows:
        label, *values = re.findall(r"`([^`]+)`", labels) or [None]
        fields = re.findall(r"`([^`]+)`", fields)
        if kind == "histogram":
            continue
        for i, value in enumerate([None] if has_free_labels(name) else values or [None]):
            path = fields[min(i, len(fields) - 1)].replace(f"{{{label}}}", value or "")
            found[name, value] = SPECIAL.get((name, value)) or value_of(path, value, i)
    return found


def value_of(path, value, i):
    def find(status):
        there = field(status, path)
        if isinstance(there, str):
            return there == value
        if isinstance(there, list):
            return there[i]
        return there * FACTORS.get(path, 1)
    return find


def lies_between(value, a, b, margin=0.0):
    """NaN lies between NaNs."""
    if value != value:
        return a != a or b != b
    low, high = min(a, b) - margin, max(a, b) + margin
    return low - 1e-9 * abs(low) <= value <= high + 1e-9 * abs(high)


class Prometheus:
    """A real one, on a port of its own."""

    def __init__(self, test, config):
        with open(test.path("prometheus.yml"), "w", encoding="utf-8") as file:
            file.write(config)
        self.program = test.start(
            "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data",
            "--web.listen-address=127.0.0.1:0")
        listening = re.compile(r'msg="Listening on" address=(127\.0\.0\.1:\d+)')

        def address():
            assert self.program.runs(), self.program.stderr()
            return listening.search(self.program.stderr())
        self.address = wait_until(address, "Prometheus listens").group(1)
        wait_until(lambda: "Server is ready" in self.program.stderr(), "Prometheus is ready")

    def get(self, path, **parameters):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)["data"]

    def query(self, expression):
        """[(labels, number)]"""
        return [(each["metric"], float(each["value"][1]))
                for each in self.get("query", query=expression)["result"]]


class TestMetrics(TowerTestCase):
    def promtool(self, *words, text=None):
        done = subprocess.run(["promtool", *words], input=text, capture_output=True, timeout=60,
                              check=False)
        return done.returncode, (done.stdout + done.stderr).decode()

    def test_promtool_finds_nothing_to_object_to(self):
        server = self.serve("--name", 'The "Best" \\ Radio', "--genre", "Blås")
        for path in ("/metrics", "/metrics?from=prometheus"):
            status, _, body = server.get(path)
            self.assertEqual(status, 200)
            self.assertEqual(self.promtool("check", "metrics", text=body), (0, ""))
        self.assertIn(r'name="The \"Best\" \\ Radio"', body.decode())
        self.stop(server)

    @takes(8)
    def test_each_value_is_that_of_status(self):
        server = self.serve("--grace", "0", "--tone-level", "-18")
        self.feed(server, "mock:tone", "--title", "Holst - Jupiter")
        server.wait_origin("live")
        waiting = self.produce(server)
        waiting.send(b"\0" * 4608)
        listeners = [Listener(server.port), Listener(server.port, request=(
            "GET /stream HTTP/1.1\r\nHost: here\r\nIcy-MetaData: 1\r\n\r\n"))]
        server.wait_status(lambda s: s["title"] and s["listeners"]["with_titles"] == 1,
                           "a title is on air and one listener gets it")
        finders = expected()
        sent = {(name, labels[0] if labels and not has_free_labels(name) else None)
                for name, labels in metrics(server)
                if not re.search(r"_seconds_(bucket|sum|count)$", name)}
        self.assertEqual(set(finders), sent)
        open_questions = dict(finders)
        last = {}

        # What moves up and down may have been elsewhere between two looks at /status: each must be
        # met once where it ought to be.
        def all_were_met():
            before, now, after = server.status(), metrics(server), server.status()
            for key, find in list(open_questions.items()):
                name, value = key
                there = next(number for (other, labels), number in now.items()
                             if other == name and (value is None or value in labels))
                a, b = find(before), find(after)
                last[key] = a, there, b
                if lies_between(there, a, b, 0.5 if name.endswith("_dbfs") else 0):
                    del open_questions[key]
            return not open_questions
        try:
            wait_until(all_were_met, "all metrics agree with /status", 20, 0.003)
        except AssertionError:
            self.fail({key: last[key] for key in open_questions})
        for listener in listeners:
            listener.socket.shutdown(socket.SHUT_RDWR)
        self.stop(server)

    def test_histograms_add_up(self):
        server = self.serve()
        listener = Listener(server.port)
        listener.wait_bytes(100 * 384)
        before, now, after = server.status(), metrics(server), server.status()
        listener.hang_up()
        for name, count, bounds in (
                ("tower_tick_lateness_seconds", "ticks.emitted", (5e-05, 1.0)),
                ("tower_listeners_send_seconds", "listeners.sends", (2e-06, 0.1))):
            buckets = sorted((float(labels[0]), number) for (other, labels), number in now.items()
                             if other == name + "_bucket")
            self.assertGreater(len(buckets), 8)
            self.assertEqual((buckets[0][0], buckets[-2][0], buckets[-1][0]),
                             (*bounds, float("inf")))
            counts = [number for _, number in buckets]
            self.assertEqual(counts, sorted(counts), "cumulative")
            self.assertEqual(counts[-1], now[name + "_count", ()])
            self.assertGreater(now[name + "_sum", ()], 0)
            # The tick under way has been counted as late or not, and is not emitted yet.
            self.assertLessEqual(field(before, count), counts[-1])
            self.assertLessEqual(counts[-1], field(after, count) + 1)
        # Seconds, and no other unit: no tick can have been later than the program is old.
        latest = now["tower_tick_lateness_max_seconds", ()]
        self.assertLess(latest, now["tower_uptime_seconds", ()])
        self.assertLessEqual(now["tower_tick_lateness_seconds_sum", ()],
                             latest * now["tower_tick_lateness_seconds_count", ()] * 1.000001)
        self.stop(server)

    @takes(15)
    def test_a_listener_that_stops_reading_and_one_that_hangs_up(self):
        server = self.serve("--client-timeout-ms", "2000", "--client-buffer-bytes", "4096",
                            "--bitrate", "320k")
        listener = Listener(server.port)
        listener.wait_bytes(1)
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        stuck.connect(("127.0.0.1", server.port))
        self.addCleanup(stuck.close)
        stuck.sendall(b"GET /stream HTTP/1.1\r\nHost: here\r\n\r\n")

        def wait_for(what, **wanted):
            def holds():
                now = metrics(server)
                return all(now[name, labels] == number for name, labels, number in wanted["all"])
            wait_until(holds, what, 60, 0.02)
        wait_for("one is blocked", all=[
            ("tower_listeners", ("sending",), 1), ("tower_listeners", ("blocked",), 1),
            ("tower_listeners_accepted_total", (), 2)])
        wait_for("it is dropped", all=[
            ("tower_listeners", ("sending",), 1), ("tower_listeners", ("blocked",), 0),
            ("tower_listeners_ended_total", ("timeout",), 1),
            ("tower_listeners_ended_total", ("closed",), 0)])
        heard = len(listener.body)
        listener.hang_up()
        wait_for("the other has gone", all=[
            ("tower_listeners", ("sending",), 0), ("tower_listeners_peak", (), 2),
            ("tower_listeners_ended_total", ("closed",), 1)])
        self.assertGreaterEqual(metrics(server)["tower_listeners_sent_bytes_total", ()], heard)
        self.stop(server)


class TestPrometheus(TowerTestCase):
    @takes(15)
    def test_it_scrapes_and_finds_what_the_dashboard_asks_for(self):
        server = self.serve()
        target = f"127.0.0.1:{server.port}"
        prometheus = Prometheus(self, f"""
global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}
rule_files: ["{ALERTS}"]
scrape_configs:
  - job_name: tower
    static_configs: [targets: ["{target}"]]
""")
        wait_until(lambda: prometheus.query('up{job="tower"} == 1'), "Prometheus has scraped it")
        wait_until(lambda: prometheus.get("targets")["activeTargets"][0]["lastError"] == "",
                   "the last scrape was good")
        self.assertGreater(prometheus.query('tower_frames_total{origin="grace"}')[0][1], 0)

        # Nobody's name is known before anybody is there.
        self.feed(server, "mock:tone")
        questions = dashboard_expressions()
        self.assertGreater(len(questions), 40)
        for text in questions:
            expression = text.replace("$__rate_interval", "1m").replace("$instance", target)
            wait_until(lambda: prometheus.query(expression), f"there is an answer to {text}")
        state = next(each for each in questions if "tower_state" in each).replace("$instance", target)
        wait_until(lambda: [number for _, number in prometheus.query(state)] == [12],
                   "the transmitter is on air as the dashboard has it")

        def all_were_evaluated():
            rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
            return rules and all(rule["health"] != "unknown" for rule in rules) and rules
        rules = wait_until(all_were_evaluated, "all rules were evaluated")
        self.assertEqual([rule["name"] for rule in rules if rule["health"] != "ok"], [])
        self.assertEqual(len(rules), len(alert_names()))
        prometheus.program.kill(15)
        self.assertEqual(prometheus.program.wait(), 0)
        self.stop(server)


def alert_names():
    return re.findall(r"^ +- alert: (\w+)$", read(ALERTS), re.M)


def dashboard_panels():
    return json.loads(read("packaging/grafana-dashboard.json"))["panels"]


def dashboard_expressions():
    return [target["expr"] for panel in dashboard_panels() for target in panel.get("targets", [])]


def families_in(text):
    """The families named in `text`; of a histogram it names the samples."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\btower_\w+", text)}


class TestWhatIsBuiltOnIt(TowerTestCase):
    def test_every_metric_asked_for_exists(self):
        server = self.serve()
        # Nobody's name is known before anybody is there.
        self.produce(server)
        server.wait_status(lambda s: s["producers"]["connected"] == 1, "a producer is there")
        text = server.get("/metrics")[2].decode()
        families = set(re.findall(r"^# TYPE (\w+)", text, re.M))
        self.assertEqual(families_in(" ".join(dashboard_expressions())) - families, set())
        self.assertEqual(families_in(read(ALERTS)) - families, set())
        # And the values of labels, where they are spelled out.
        spelled = set(re.findall(r'(\w+="[^"$]+")', " ".join(dashboard_expressions() + [read(ALERTS)])))
        sent = set(re.findall(r'(\w+="[^"]+")', text)) | {'job="tower"'}
        self.assertEqual({each for each in spelled if "|" not in each} - sent, set())
        self.stop(server)

    def test_the_dashboard_is_one(self):
        dashboard = json.loads(read("packaging/grafana-dashboard.json"))
        self.assertGreaterEqual(dashboard["schemaVersion"], 37)
        panels = dashboard_panels()
        numbers = [panel["id"] for panel in panels]
        self.assertEqual(len(numbers), len(set(numbers)))
        self.assertIn("datasource", [each["type"] for each in dashboard["templating"]["list"]])
        taken = set()
        for panel in panels:
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                     for y in range(place["y"], place["y"] + place["h"])}
            self.assertLessEqual(place["x"] + place["w"], 24, panel["title"])
            self.assertFalse(cells & taken, f"{panel['title']} lies on another")
            taken |= cells
            if panel["type"] == "row":
                continue
            letters = [target["refId"] for target in panel["targets"]]
            self.assertEqual(len(letters), len(set(letters)), panel["title"])
            for each in [panel] + panel["targets"]:
                self.assertEqual(each["datasource"],
                                 {"type": "prometheus", "uid": "${datasource}"}, panel["title"])

    def test_the_alerts(self):
        for words in (["check", "rules", ALERTS],
                      ["test", "rules", os.path.join(HERE, "alerts_test.yml")]):
            done = subprocess.run(["promtool", *words], capture_output=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        names = alert_names()
        self.assertEqual(re.findall(r'alertname="(\w+)"', read(HERE, "alerts_test.yml")), names)
        self.assertEqual(re.findall(r"^\| `(Tower\w+)` \|", read("doc/metrics.md"), re.M), names)
