"""A process of several nodes, `starling run --loops 2`: they find each other, serve, come back into their places, and leave."""
import contextlib
import json
import random
import signal
import socket
import subprocess
import unittest

from cluster_test import FREE, SECONDS, STARLING, Case, environment

ZONE_MAX = 32


def two_free_ports():
    """One, and that 10 above it is free, too; below those that the system gives to others meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 10))
            return port


class Loops(Case):
    def setUp(self):
        super().setUp()
        self.data = self.dir / "m"
        self.second = self.data / "loops" / "2"
        self.link = ("--link", f"127.0.0.1:{two_free_ports()}")  # The same after a restart, so that they find each other.

    def status_at(self, data):
        return json.loads(self.starling("status", "--json", "--data", data).stdout)

    def cluster_at(self, data):
        """Nodes of the ring, and those that serve; (0, 0) while nobody answers."""
        with contextlib.suppress(AssertionError, KeyError):
            cluster = self.status_at(data)["cluster"]
            return cluster["nodes"], cluster["serving"]
        return 0, 0

    def eventually_serve(self, count):
        self.eventually(f"{count} serve", lambda: self.cluster_at(self.data) == (count, count))

    def id_at(self, data):
        return self.status_at(data)["node"]["id"]

    @contextlib.contextmanager
    def process(self, *words):
        """What it says goes to `self.log`; ended by SIGTERM unless it was killed."""
        self.log = self.dir / "process.log"
        words += self.link
        words += tuple(word for i in range(0, len(FREE), 2) if FREE[i] not in words for word in FREE[i:i + 2])
        with open(self.log, "wb") as log:
            process = subprocess.Popen([STARLING, *map(str, words), "--data", self.data], stdout=log, stderr=log,
                                       env=environment(), cwd=self.dir)
        try:
            yield process
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(SECONDS), 0, self.log.read_text())
        finally:
            process.kill()
            process.wait()

    def prove(self):
        """What devices at both loops say to each other arrives; both took sends."""
        output = self.starling("replay", "--generate", "--limit", 300, "--users", 20, "--speed", 0, "--data", self.data,
                               "--json").stdout
        self.assertEqual(json.loads(output)["proof"], "pass")
        for data in (self.data, self.second):
            self.assertGreater(self.status_at(data)["rates"]["sends"], 0, data)

    def test_two_serve_come_back_and_leave(self):
        with self.process("run", "--loops", 2, "--copies", 1) as process:
            self.eventually_serve(2)
            members = self.status_at(self.data)["members"]
            self.assertEqual({member["zone"] for member in members}, {socket.gethostname()[-ZONE_MAX:]})
            self.assertEqual([self.status_at(data)["node"]["pid"] for data in (self.data, self.second)], [process.pid] * 2)
            self.assertLess(max(member["share"] for member in members), 0.6, "each owns its half")
            self.prove()
            refused = self.starling("drain", "--data", self.data, code=5).stderr
            self.assertIn("no node of another process serves", refused)
            self.assertNotIn("drained", [self.status_at(data)["node"]["state"] for data in (self.data, self.second)])
        first, second = [member["id"] for member in sorted(members, key=lambda member: not member["self"])]

        # A member starts with the process, whatever --loops says, and is who it was. When it has left it ends by itself.
        with self.process("run"):
            self.eventually_serve(2)
            self.assertEqual((self.id_at(self.data), self.id_at(self.second)), (first, second))
            self.prove()
            self.assertIn("safe to power off", self.starling("leave", "--data", self.second).stdout)
            self.eventually("the loop that left ends", lambda: not (self.second / "addresses.json").exists())
            self.assertEqual(self.cluster_at(self.data), (1, 1))

        with self.process("run"):
            self.eventually_serve(1)
            self.assertFalse((self.second / "addresses.json").exists())
        with self.process("run", "--loops", 2):  # A new one in its folder.
            self.eventually_serve(2)
            self.assertNotEqual(self.id_at(self.second), second)

    def test_a_killed_process_restarts_into_its_places(self):
        with self.process("run", "--loops", 2) as process:
            self.eventually("the second is about to join", lambda: (self.second / "join-token").exists())
            process.kill()
            process.wait()
        ids = set()
        for _ in range(2):
            with self.process("run", "--loops", 2) as process:
                self.eventually_serve(2)
                ids.add((self.id_at(self.data), self.id_at(self.second)))
                process.kill()
                process.wait()
        self.assertEqual(len(ids), 1)

    def test_a_machine_joins_drains_and_leaves_as_one(self):
        other = self.dir / "other"
        with self.running("--data", other, *FREE):
            token = json.loads(self.starling("invite", "--json", "--data", other).stdout)["token"]
            with self.process("join", token, "--loops", 2):
                self.eventually_serve(3)
                self.starling("drain", "--data", self.data)
                states = [self.status_at(data)["node"]["state"] for data in (self.data, self.second, other)]
                self.assertEqual(states, ["drained", "drained", "serving"])
                self.starling("undrain", "--data", self.data)
                self.assertIn("safe to power off", self.starling("leave", "--data", self.data, "--force").stdout)
                self.assertEqual(self.cluster_at(other), (1, 1))

    def test_it_stays_alone_in_a_zone_of_many_machines(self):
        with self.process("run"):  # In the zone that all have who chose none.
            self.eventually_serve(1)
        with self.process("run", "--loops", 2):
            self.eventually("it says why", lambda: "loop 2 does not join: the zone of this node is 'default'" in self.log.read_text())
            self.assertEqual(self.cluster_at(self.data), (1, 1))

    def test_a_port_that_is_taken_is_waited_for(self):
        with self.process("run", "--loops", 2, "--copies", 1):
            self.eventually_serve(2)
        port = two_free_ports() + 10
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
            taken.listen()
            with self.process("run", "--client", f"127.0.0.1:{port - 10}"):
                self.eventually("it says so", lambda: "loop 2 cannot start" in self.log.read_text())
                taken.close()
                self.eventually_serve(2)


if __name__ == "__main__":
    unittest.main()
