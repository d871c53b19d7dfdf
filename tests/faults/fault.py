"""What a fault is: a function that does something bad to a running station.

    @fault("producer killed")
    def producer_killed(station):
        \"\"\"What is done, and what is expected.\"\"\"
        station.feeder.kill()                       # do it
        station.server.wait_origin("tone")          # expect what is particular to it
        return "the tone within ..."                # and say what is worth saying, or nothing

What is expected after every fault is Station.settle() and Station.judge()'s to see: nobody was
lost, every listener's bytes decode, frames agree with the wall clock, and all is as it was.
"""
from station import Station

FAULTS = []


class Fault:
    def __init__(self, name, function, stall, station, is_random):
        self.name = name
        self.function = function
        self.stall = stall  # for so many seconds the transmitter can do nothing
        self.station = station  # the kind of it
        self.is_random = is_random  # comes up in the random part too


def fault(name, stall=0.0, station=Station, is_random=True):
    def add(function):
        FAULTS.append(Fault(name, function, stall, station, is_random))
        return function
    return add
