"""Producers of every kind on the PCM socket, without the program `tower feed`."""
import os
import random
import stat

from harness import TowerTestCase, open_descriptors, process_exists, takes, wait_until
from listening import Listener
import sound

FRAME = sound.FRAME_BYTES


def pieces_of(data, seed=None, size=None):
    """Cut into writes: of a fixed size, or of 1 to 65536 bytes at random."""
    dice = random.Random(seed)
    at = 0
    while at < len(data):
        step = size or dice.choice([dice.randint(1, 9), dice.randint(1, 5000),
                                    dice.randint(1, 65536)])
        yield data[at:at + step]
        at += step


def pcm_of(frequency, frames, peak=0.4):
    """`frames` frames of a sine, as bytes."""
    return sound.stereo(sound.tone([frequency], frames * 0.024, peak)).tobytes()


class TestProducers(TowerTestCase):
    @takes(12)
    def test_one_that_says_nothing_stops_nothing(self):
        server = self.serve("--grace", "1")
        self.produce(server)
        server.wait_status(lambda s: s["producers"]["connected"] == 1, "the mute one is connected")
        status = server.wait_origin("tone")
        self.assertEqual(status["frames_by_origin"]["live"], 0)
        before = status["air"]["frames"]
        server.wait_status(lambda s: s["air"]["frames"] > before + 50, "the air goes on")
        self.assertEqual(server.status()["origin"], "tone")
        self.assertEqual(server.get("/readyz")[0], 200)
        # And it does not keep another one off the air for ever.
        other = self.produce(server)
        other.start_sending([pcm_of(700, 500)])
        server.wait_origin("live")
        self.stop(server)

    @takes(5)
    def test_one_byte_and_gone_is_a_partial_frame(self):
        server = self.serve("--grace", "0")
        producer = self.produce(server)
        producer.send(b"\x55")
        producer.close()
        status = server.wait_status(lambda s: s["producers"]["partial_frames"] == 1,
                                    "the partial frame is counted")
        self.assertEqual(status["producers"]["partial_bytes"], 1)
        before = status["air"]["frames"]
        status = server.wait_status(lambda s: s["air"]["frames"] > before + 20, "the air goes on")
        self.assertEqual(status["frames_by_origin"]["live"], 0)
        self.assertEqual(status["origin"], "tone")
        self.assertEqual(status["producers"]["connected"], 0)
        self.stop(server)

    @takes(6)
    def test_a_partial_frame_is_not_joined_to_the_next_producers_audio(self):
        """One stray byte kept would turn the next programme into noise."""
        server = self.serve("--grace", "0", "--tone-frequency", "0")
        listener = Listener(server.port)
        for _ in range(5):
            producer = self.produce(server)
            producer.send(pcm_of(500, 3)[:FRAME * 2 + 1001])
            producer.close()
        server.wait_status(lambda s: s["producers"]["partial_frames"] == 5, "all five are gone")
        whole = self.produce(server)
        whole.start_sending([pcm_of(500, 100)])
        server.wait_status(lambda s: s["frames_by_origin"]["live"] == 110,
                           "2 whole frames of each of the five and 100 of the last were on air")
        listener.wait_more_frames(20)
        heard = sound.decode(listener.hang_up(), self.folder)
        own = sound.largest_step(sound.stereo(sound.tone([500], 1, 0.4)))
        self.assertLessEqual(sound.largest_step(heard), 2 * own)
        self.stop(server)

    @takes(20)
    def test_garbage_sizes_come_out_intact(self):
        music = sound.song(12, self.folder, seed=7)  # 500 frames exactly
        server = self.serve("--grace", "1")
        listener = Listener(server.port)
        producer = self.produce(server)
        producer.start_sending(pieces_of(music.tobytes(), seed=11))
        producer.wait_sent()
        status = server.wait_status(lambda s: s["frames_by_origin"]["live"] == 500,
                                    "all 500 frames were on air")
        listener.wait_more_frames(20)
        heard = sound.decode(listener.hang_up(), self.folder)
        self.stop(server)
        sound.assert_same_music(music, heard)
        self.assertEqual(status["router"]["overflow_count"], 0)
        self.assertEqual(status["producers"]["partial_frames"], 0)
        self.assertEqual(status["producers"]["bytes"], 500 * FRAME)

    @takes(10)
    def test_one_byte_at_a_time(self):
        server = self.serve("--grace", "0")
        producer = self.produce(server)
        producer.start_sending(pieces_of(pcm_of(500, 10), size=1))
        producer.wait_sent()
        status = server.wait_status(lambda s: s["producers"]["connected"] == 0, "it is gone")
        self.assertEqual(status["producers"]["frames"], 10)
        self.assertEqual(status["producers"]["partial_frames"], 0)
        self.stop(server)

    @takes(12)
    def test_one_ahead_of_its_time_is_slowed_and_loses_nothing(self):
        server = self.serve("--buffer-frames", "8", "--grace", "0")
        producer = self.produce(server)
        producer.start_sending([pcm_of(500, 300)])  # 7.2 s
        status = server.wait_status(
            lambda s: s["frames_by_origin"]["live"] > 60, "two seconds were on air")
        self.assertTrue(producer.thread.is_alive(), "the writer waits: 7 s cannot have fitted")
        self.assertLessEqual(status["router"]["count"], 8)
        buffer = server.get("/tower/buffer")
        self.assertEqual(buffer[0], 200)
        producer.wait_sent()
        status = server.wait_status(lambda s: s["frames_by_origin"]["live"] == 300,
                                    "every frame was on air")
        self.assertEqual(status["router"]["overflow_count"], 0)
        self.stop(server)

    @takes(10)
    def test_the_second_waits_unread_and_is_on_air_at_once(self):
        server = self.serve("--grace", "2")
        listener = Listener(server.port)
        first = self.produce(server)
        first.start_sending([pcm_of(500, 190)])
        grace = server.wait_origin("live")["frames_by_origin"]["grace"]
        second = self.produce(server)
        second.start_sending([pcm_of(900, 190)])
        status = server.wait_status(lambda s: len(s["producers"]["list"]) == 2, "both are there")
        one, two = status["producers"]["list"]
        self.assertEqual([one["on_air"], two["on_air"]], [True, False])
        self.assertEqual(two["pid"], os.getpid())

        def all_were_on_air(status):
            by_id = {producer["id"]: producer for producer in status["producers"]["list"]}
            if by_id.get(one["id"], {}).get("on_air"):
                self.assertEqual(by_id[two["id"]]["bytes"], 0, "the second is unread until then")
            return status["frames_by_origin"]["live"] == 380
        status = server.wait_status(all_were_on_air, "every frame of both was on air")
        self.assertEqual(status["frames_by_origin"]["grace"], grace, "no silence between the two")
        listener.wait_more_frames(20)
        heard = sound.mono(sound.decode(listener.hang_up(), self.folder))
        self.stop(server)
        self.judge_not_mixed(heard)

    def judge_not_mixed(self, heard):
        window = 2400
        places = range(0, len(heard) - window, window)
        in_first = [at for at in places if sound.strength_of(heard[at:at + window], 500) > 3000]
        in_second = [at for at in places if sound.strength_of(heard[at:at + window], 900) > 3000]
        self.assertAlmostEqual(len(in_first) * window / sound.RATE, 190 * 0.024, delta=0.15)
        self.assertAlmostEqual(len(in_second) * window / sound.RATE, 190 * 0.024, delta=0.15)
        both = set(in_first) & set(in_second)
        self.assertLessEqual(len(both), 1, "only where one goes over into the other")
        self.assertLess(max(in_first), min(in_second) + window)

    @takes(8)
    def test_one_that_writes_and_closes_while_it_waits_loses_nothing(self):
        server = self.serve("--grace", "0")
        first = self.produce(server)
        first.start_sending([pcm_of(500, 120)], close_at_end=False)
        server.wait_origin("live")
        second = self.produce(server)
        second.start_sending([pcm_of(900, 20)])
        second.wait_sent()  # it is closed by now, and not yet on air
        first.wait_sent()
        first.close()
        status = server.wait_status(lambda s: s["frames_by_origin"]["live"] >= 140,
                                    "the second's frames were on air too")
        self.assertEqual(status["frames_by_origin"]["live"], 140)
        self.assertEqual(status["producers"]["partial_frames"], 0)
        self.stop(server)

    @takes(8)
    def test_many_that_come_and_go(self):
        server = self.serve("--grace", "0")
        descriptors = open_descriptors(server.pid)
        for number in range(120):
            producer = self.produce(server)
            try:
                if number % 3:
                    producer.send(b"\1" * (number % 7 * 701))
            except (BrokenPipeError, ConnectionResetError):
                pass  # there were too many of them at once: it was refused
            producer.close()
        status = server.wait_status(
            lambda s: s["producers"]["accepted"] + s["producers"]["refused"] >= 120 and
            s["producers"]["connected"] == 0, "all came and went")
        self.assertEqual(status["state"], "on air")
        wait_until(lambda: open_descriptors(server.pid) <= descriptors,
                   "no descriptor is left open")
        # And there is a place for the next.
        producer = self.produce(server)
        producer.start_sending([pcm_of(500, 100)])
        server.wait_status(lambda s: s["frames_by_origin"]["live"] >= 100, "the next is on air")
        self.stop(server)

    def test_the_socket_has_mode_0660(self):
        server = self.serve()
        self.assertEqual(stat.S_IMODE(os.stat(server.socket_path).st_mode), 0o660)
        self.assertTrue(stat.S_ISSOCK(os.stat(server.socket_path).st_mode))
        self.stop(server)
        self.assertFalse(os.path.exists(server.socket_path), "the socket file is gone")
        self.assertFalse(process_exists(server.pid))
        wait_until(lambda: not server.runs(), "it is over")
