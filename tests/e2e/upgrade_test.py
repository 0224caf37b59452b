"""A cluster goes from the previous release to this build, node by node and under load, and back again.

STARLING_PREVIOUS names the previous release's program; scripts/test-upgrade builds it and runs this. Without
it there is nothing to compare with, and all of it is skipped.
"""
import json
import os
import sys
import unittest

import cluster_test
from cluster_test import SECONDS, STARLING

PREVIOUS = os.environ.get("STARLING_PREVIOUS")
NODES = 3


class Upgrade(cluster_test.Replay):
    # Of the base only the tools are wanted.
    test_the_real_conversation_arrives = None
    test_a_node_killed_in_the_middle_loses_nothing = None

    def cluster_of(self, program, *words):
        return self.run_program("env", f"STARLING={program}", cluster_test.ROOT / "scripts/cluster", "--dir",
                                self.dir / "c", *words, seconds=10 * SECONDS)

    def sends(self, number):
        answer = json.loads(self.starling("status", "--json", "--data", self.node(number)).stdout)
        return answer["rates"]["sends"]

    def serving(self):
        try:
            return self.status()["cluster"]["serving"] == NODES
        except (AssertionError, KeyError):
            return False

    def roll(self, program):
        """Every node is stopped in order and started again as `program`, one after the other."""
        for number in range(1, NODES + 1):
            self.cluster("stop", str(number))
            self.cluster_of(program, "start", str(number))
            self.eventually(f"node {number} serves as {program}", self.serving)

    def rings(self):
        """Ring version and lineage in the eyes of each node."""
        seen = set()
        for number in range(1, NODES + 1):
            answer = self.starling("ring", "--json", "--data", self.node(number)).stdout
            ring = json.loads(answer)
            seen.add((ring["number"], ring["lineage"]))
        return seen

    def test_forward_and_back_under_load_loses_nothing(self):
        self.cluster_of(PREVIOUS, "up", str(NODES))
        replay = self.replay(*self.script(), "--limit", 4000, "--seconds", 90)
        self.eventually("the load runs", lambda: self.sends(2) > 30)
        self.roll(STARLING)
        self.assertEqual(len(self.rings()), 1, "all agree on the ring")
        if replay.poll() is not None:
            self.fail(f"the load ended before the upgrade did: {replay.communicate()[0]}")
        self.roll(PREVIOUS)
        self.proven(replay)
        self.assertEqual(len(self.rings()), 1)


if __name__ == "__main__":
    if not PREVIOUS:
        print("SKIPPED: no previous release to upgrade from. Set STARLING_PREVIOUS to its program, or let "
              "scripts/test-upgrade build it (20 min)")
        sys.exit(77)
    unittest.main(verbosity=2)
