"""The partitions of a running cluster are doubled while people write and a node is killed; `starling check` judges."""
import json
import os
import signal
import subprocess
import sys
import unittest
import urllib.request

from cluster_test import SECONDS, STARLING, Case, environment

NODES = 3
PARTITIONS = 64
LOAD_SECONDS = 60  # Two doublings, and a node that dies and comes back.


class Doubling(Case):
    def begin(self, *words):
        """A program that goes on meanwhile."""
        process = subprocess.Popen([STARLING, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, env=environment(), cwd=self.dir)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def end(self, process, seconds=3 * SECONDS):
        out, err = process.communicate(timeout=seconds)
        self.assertEqual(process.returncode, 0, out[-3000:] + err[-3000:])
        return out, err

    def ask(self, number, command):
        return json.loads(self.starling(command, "--json", "--data", self.node(number)).stdout)

    def addresses(self, number):
        return json.loads((self.node(number) / "addresses.json").read_text())

    def metric(self, number, name):
        with urllib.request.urlopen(f"http://{self.addresses(number)['admin']}/metrics", timeout=SECONDS) as answer:
            lines = answer.read().decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(name + " "))

    def short(self, number):
        return self.ask(number, "status")["node"]["short"]

    def sees(self, number, short, state):
        return any(m["short"] == short and m["state"] == state for m in self.ask(number, "status")["members"])

    def all_serve(self):
        cluster = self.ask(1, "status")["cluster"]
        return cluster["serving"] == cluster["nodes"]

    def verified(self):
        told = json.loads(self.starling("verify", "--json", "--data", self.node(1), seconds=3 * SECONDS).stdout)
        self.assertEqual(told["same"], told["partitions"])
        self.assertGreater(told["rows"], 0)

    def doubled(self, to, units=PARTITIONS):
        """Every node says so, of its ring and of its store."""
        for number in range(1, NODES + 1):
            ring = self.ask(number, "ring")
            self.assertEqual((ring["partitions"], ring["units"]), (to, units))
            self.assertEqual(self.metric(number, "starling_partitions"), to)
            self.assertEqual(self.metric(number, "starling_split_share"), 1)

    def test_doubled_twice_under_load_with_a_node_killed_in_the_middle(self):
        self.cluster("up", str(NODES), "--", "--partitions", str(PARTITIONS))
        history = self.dir / "history"
        load = self.begin("bench", "pairs", "--users", 40, "--rate", 200, "--payload", 2000, "--duration", LOAD_SECONDS,
                          "--patience", SECONDS, "--cluster", self.dir / "c", "--record", history, "--json")
        self.eventually("there is something to split", lambda: self.metric(1, "starling_changes_total") > 3000)

        to = 2 * PARTITIONS
        looked = self.starling("ring", "double", "--data", self.node(2), code=2)
        self.assertIn("cannot be undone", looked.stdout)
        self.assertIn(f"starling ring double --to {to}", looked.stderr)
        self.assertIn("Nothing was changed", self.starling("ring", "double", "--dry-run", "--data", self.node(2)).stdout)
        self.assertEqual(self.ask(1, "ring")["partitions"], PARTITIONS)

        victim, name = self.addresses(3)["pid"], self.short(3)
        doubling = self.begin("ring", "double", "--to", to, "--data", self.node(2))
        self.eventually("somebody follows", lambda: self.metric(1, "starling_partitions") == to)
        os.kill(victim, signal.SIGKILL)
        self.eventually("it is missed", lambda: self.sees(1, name, "dead"))
        sent = self.metric(1, "starling_sends_total")
        self.eventually("sends go on", lambda: self.metric(1, "starling_sends_total") > sent + 50)
        self.assertIsNone(load.poll(), "the load ended before the node was back")
        self.cluster("start", "3")
        out, _ = self.end(doubling)
        self.assertIn("All nodes have settled.", out)
        self.eventually("all serve", self.all_serve)
        self.doubled(to)

        # Whoever did not hear how it went asks again, and nothing more happens.
        again = self.starling("ring", "double", "--to", to, "--data", self.node(1))
        self.assertIn(f"There are {to} partitions already.", again.stdout)
        self.assertEqual(self.ask(1, "ring")["partitions"], to)

        self.assertIsNone(load.poll(), "the load ended before the second doubling")
        self.starling("ring", "double", "--to", 2 * to, "--data", self.node(3), seconds=3 * SECONDS)
        self.doubled(2 * to)

        report = json.loads(self.end(load)[0])
        self.assertGreater(report["acked"], 1000)
        self.assertEqual(report["lost"], 0)
        self.starling("check", history, "--closed", seconds=3 * SECONDS)
        self.verified()

        # What is on disk says it, too; and changes of the ring go on by the units.
        self.cluster("down")
        self.cluster("up", str(NODES))
        self.doubled(2 * to)
        self.cluster("add")
        self.eventually("all serve", self.all_serve)
        self.assertEqual(self.ask(4, "ring")["partitions"], 2 * to)
        self.verified()
        self.cluster("down", "--wipe")

    def test_who_is_in_the_way_is_named_and_nothing_happens(self):
        self.cluster("up", str(NODES), "--", "--partitions", str(PARTITIONS))
        wrong = self.starling("ring", "double", "--to", 100, "--data", self.node(1), code=1)
        self.assertIn(f"a doubling makes {2 * PARTITIONS}", wrong.stderr)
        name = self.short(3)
        self.cluster("kill", "3")
        self.eventually("it is missed", lambda: self.sees(1, name, "dead"))
        for words in (["--dry-run"], ["--to", 2 * PARTITIONS]):
            refused = self.starling("ring", "double", *words, "--data", self.node(1), code=5)
            self.assertIn(f"node {name} is down: start it", refused.stderr)
        self.assertEqual(self.ask(1, "ring")["partitions"], PARTITIONS)
        # Without waiting, and without a node that is gone.
        self.starling("remove", name, "--data", self.node(1), seconds=3 * SECONDS)
        # Who heard of two versions at once compares with the other before it serves again.
        self.eventually("the others serve", lambda: self.ask(1, "status")["cluster"]["serving"] == NODES - 1)
        told = self.starling("ring", "double", "--to", 2 * PARTITIONS, "--no-wait", "--data", self.node(1)).stdout
        self.assertIn("starling ring --diff", told)
        self.assertIn(f"{2 * PARTITIONS} partitions, placed as {PARTITIONS}",
                      self.starling("status", "--data", self.node(1)).stdout)
        self.eventually("it settles", lambda: self.metric(2, "starling_split_share") == 1)
        self.cluster("down", "--wipe")


if __name__ == "__main__":
    unittest.main(verbosity=2, argv=sys.argv)
