"""Real nodes come and go while people write; judged by `starling check`."""
import json
import subprocess
import sys
import unittest

from cluster_test import SECONDS, STARLING, Case, environment


class Moves(Case):
    def test_one_joins_one_leaves_and_a_dead_one_is_removed_under_load(self):
        self.cluster("up", "4")
        history = self.dir / "history"
        load = subprocess.Popen([STARLING, "replay", "--generate", "--limit", "4000", "--cluster", str(self.dir / "c"),
                                 "--record", str(history), "--json"],
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(),
                                cwd=self.dir)
        self.addCleanup(load.kill)
        self.eventually("messages", lambda: history.exists() and history.stat().st_size > 20_000)

        self.cluster("add")
        self.serve(5)

        refused = self.starling("remove", self.short(3), "--data", self.node(1), code=4)
        self.assertIn("starling leave", refused.stderr)
        told = self.starling("leave", "--dry-run", "--data", self.node(2)).stdout
        self.assertIn("Nothing was changed", told)
        left = self.starling("leave", "--data", self.node(2), seconds=3 * SECONDS)
        self.assertTrue(left.stdout.endswith("safe to power off\n"), left.stdout)
        self.cluster("stop", "2")
        self.serve(4)
        again = self.starling("run", "--data", self.node(2), code=1)
        self.assertIn("starling join TOKEN", again.stderr)

        dead = self.short(3)
        self.cluster("kill", "3")
        self.eventually("the dead one is missed", lambda: self.state(1, dead) == "dead")
        self.starling("remove", dead, "--data", self.node(1), seconds=3 * SECONDS)
        self.serve(3)

        output, _ = load.communicate(timeout=5 * SECONDS)
        self.assertEqual(load.returncode, 0, output)
        self.assertEqual(json.loads(output)["proof"], "pass")
        self.starling("check", history, "--closed")
        self.starling("verify", "--data", self.node(1))

    def ring(self, node):
        return json.loads(self.starling("ring", "--json", "--data", self.node(node)).stdout)

    def serve(self, count):
        """Until node 1 knows of so many and of no change: who asked for one may know of its end before."""
        def there():
            ring = self.ring(1)
            return ring["change"] == "" and [m["state"] for m in ring["members"]].count("serving") == count
        self.eventually(f"{count} serve", there)

    def short(self, node):
        return json.loads(self.starling("status", "--json", "--data", self.node(node)).stdout)["node"]["short"]

    def state(self, node, short):
        status = json.loads(self.starling("status", "--json", "--data", self.node(node)).stdout)
        return next((m["state"] for m in status["members"] if m["short"] == short), "dead")


if __name__ == "__main__":
    unittest.main(verbosity=2, argv=sys.argv)
