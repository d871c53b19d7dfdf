"""Faults befall a station, one after the other; each is judged, and a line printed."""
import time
import traceback

import harness


class Incidents:
    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.station = None

    def say(self, is_good, name, seconds, words):
        self.passed += is_good
        self.failed += not is_good
        print(f"{'ok' if is_good else 'not ok'} {name} ({seconds:.1f} s): {words}", flush=True)

    def have(self, fault, when=""):
        """Let it befall the station, which is made if there is none of its kind."""
        began = time.monotonic()
        try:
            if self.station is None or type(self.station) is not fault.station:
                self.end_station()
                self.station = fault.station()
            words = fault.function(self.station)
            self.station.settle()
            found = self.station.judge(fault.stall)
            self.say(True, fault.name + when, time.monotonic() - began,
                     f"{found}; {words}" if words else found)
        except Exception as error:  # whatever it is, the others have their turn
            self.say(False, fault.name + when, time.monotonic() - began, error)
            self.explain()
            self.drop_station()

    def explain(self):
        text = traceback.format_exc()
        if self.station:
            text += self.station.log()[-3000:]
        print("".join(f"#   {line}\n" for line in text.splitlines()), flush=True)

    def drop_station(self):
        if self.station:
            self.station.end()
            self.station = None

    def end_station(self):
        """The last judgement of the one there is."""
        if not self.station:
            return
        began = time.monotonic()
        name = f"all of it heard by aircheck ({type(self.station).__name__})"
        try:
            words = self.station.judge_airchecks()
            self.station.stop()
            found = harness.SANITIZER.search(self.station.log())
            assert not found, f"the transmitter said: {found.group()}"
            self.say(True, name, time.monotonic() - began, words)
        except Exception as error:  # as above
            self.say(False, name, time.monotonic() - began, error)
            self.explain()
        self.drop_station()
