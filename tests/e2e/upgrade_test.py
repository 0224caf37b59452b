"""A cluster goes from the previous release to this build, node by node and under load, and back again; and while
half of it is of either, nodes crash, join and leave.

STARLING_PREVIOUS names the previous release's program; scripts/test-upgrade builds it and runs this. Without
it there is nothing to compare with, and all of it is skipped.
"""
import contextlib
import json
import os
import signal
import subprocess
import sys
import unittest

import cluster_test
from cluster_test import SECONDS, STARLING, environment

PREVIOUS = os.environ.get("STARLING_PREVIOUS")
NODES = 3
LOAD_SECONDS = 600  # At most: it is told to stop when the changes are done.
LINES_PER_SECOND = 20


class Upgrade(cluster_test.Replay):
    # Of the base only the tools are wanted.
    test_the_real_conversation_arrives = None
    test_a_node_killed_in_the_middle_loses_nothing = None

    def cluster_of(self, program, *words):
        return self.run_program("env", f"STARLING={program}", cluster_test.ROOT / "scripts/cluster", "--dir",
                                self.dir / "c", *words, seconds=10 * SECONDS)

    def serving(self, count=NODES):
        try:
            return self.status()["cluster"]["serving"] == count
        except (AssertionError, KeyError):
            return False

    def restart(self, number, program, how="stop"):
        self.cluster(how, str(number))
        self.cluster_of(program, "start", str(number))
        self.eventually(f"node {number} serves as {program}", self.serving)

    def roll(self, program):
        """Every node is stopped in order and started again as `program`, one after the other."""
        for number in range(1, NODES + 1):
            self.restart(number, program)

    def ring(self, number):
        return json.loads(self.starling("ring", "--json", "--data", self.node(number)).stdout)

    def agree(self, numbers=range(1, NODES + 1)):
        """Until these nodes name the same ring and no change of it is under way."""
        def same():
            rings = [self.ring(number) for number in numbers]
            return len({(ring["number"], ring["lineage"], ring["change"]) for ring in rings}) == 1 and not rings[0]["change"]
        self.eventually("all agree on the ring", same)

    @contextlib.contextmanager
    def load(self):
        """People write meanwhile; then `starling check` judges."""
        history = self.dir / "history"
        load = subprocess.Popen([STARLING, "replay", "--generate", "--limit", str(LOAD_SECONDS * LINES_PER_SECOND),
                                 "--seconds", str(LOAD_SECONDS), "--users", "40", "--cluster", str(self.dir / "c"),
                                 "--record", str(history), "--json"],
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(),
                                cwd=self.dir)
        self.addCleanup(load.wait)
        self.addCleanup(load.kill)
        self.eventually("messages", lambda: history.exists() and history.stat().st_size > 20_000)
        yield
        self.assertIsNone(load.poll(), "the load ended before the changes did")
        load.send_signal(signal.SIGINT)
        self.proven(load)
        self.starling("check", history, "--closed")

    def members(self, number):
        told = json.loads(self.starling("group", "members", "crew", "--json", "--data", self.node(number)).stdout)
        return {member["name"].lstrip("@"): member["role"] for member in told["members"]}

    def test_forward_and_back_under_load_loses_nothing(self):
        self.cluster_of(PREVIOUS, "up", str(NODES))
        with self.load():
            self.roll(STARLING)
            self.agree()
            self.roll(PREVIOUS)
            self.agree()
        self.starling("verify", "--data", self.node(1))

    def test_nodes_crash_join_and_leave_while_versions_are_mixed(self):
        self.cluster_of(PREVIOUS, "up", str(NODES))
        self.starling("user", "add", "ann", "ben", "cat", "dan", "--password-file", "-", "--data", self.node(2),
                      stdin="a password\n")
        self.starling("group", "create", "crew", "ann", "--data", self.node(2))
        with self.load():
            self.restart(1, STARLING)
            # What groups and passwords become is asked of one version and kept by both.
            self.starling("group", "add", "crew", "ben", "--data", self.node(1))
            self.starling("group", "add", "crew", "cat", "--data", self.node(2))
            self.starling("group", "add", "crew", "ben", "--role", "moderator", "--data", self.node(2))
            self.starling("group", "add", "crew", "cat", "--role", "owner", "--data", self.node(1))
            crew = self.members(1)
            self.assertEqual((crew["ben"], crew["cat"]), ("moderator", "owner"))
            self.assertEqual(self.members(2), crew)

            self.restart(2, PREVIOUS, "kill")
            self.restart(1, STARLING, "kill")
            self.cluster_of(STARLING, "add")
            self.agree(range(1, 5))
            self.cluster_of(PREVIOUS, "add")
            self.agree(range(1, 6))
            self.starling("group", "add", "crew", "dan", "--data", self.node(5))
            for leaver, program, rest in ((4, STARLING, 4), (3, PREVIOUS, 3)):
                said = self.run_program(program, "leave", "--data", self.node(leaver), seconds=3 * SECONDS).stdout
                self.assertTrue(said.endswith("safe to power off\n"), said)
                self.cluster("stop", str(leaver))
                self.eventually(f"{rest} serve", lambda count=rest: self.serving(count))
            self.agree((1, 2, 5))
            self.restart(2, STARLING, "kill")
            self.restart(5, STARLING)
            self.assertEqual(self.members(1), crew | {"dan": "member"})
            self.assertEqual(self.members(5), crew | {"dan": "member"})
        self.starling("verify", "--data", self.node(1))


if __name__ == "__main__":
    if not PREVIOUS:
        print("SKIPPED: no previous release to upgrade from. Set STARLING_PREVIOUS to its program, or let "
              "scripts/test-upgrade build it (4 min)")
        sys.exit(77)
    unittest.main(verbosity=2)
