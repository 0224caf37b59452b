"""Nodes whose disks say EIO, under load; judged by `starling check` (see faults_test.py).

    python3 tests/e2e/bad_disks_test.py [--long] [BadDisks.test ...]
"""
import json
import pathlib
import shutil
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import fault_disk  # noqa: E402
from fault_lab import STARLING, Lab, eventually, run  # noqa: E402
from faults_test import LOOPBACK, Case, tearDownModule  # noqa: E402, F401

NO_COMPILER = None if shutil.which("gcc") else "needs gcc"
FATAL = 70          # docs/operations.md: the node stopped itself, its disk is not to be trusted.
RESTARTS_AFTER = 30  # A node that ran so long starts again by itself.


@unittest.skipIf(NO_COMPILER, NO_COMPILER)
class BadDisks(Case):
    """A disk that says EIO, to syncs, writes and reads of one node."""

    def status(self, node):
        """What it says of itself; nothing while it cannot be asked."""
        answer = run(STARLING, "status", "--json", "--data", node.data, check=False)
        return json.loads(answer.stdout)["node"] if answer.returncode == 0 else {}

    def writer(self, node):
        return self.status(node)["writer"]

    def uptime(self, node):
        return self.status(node).get("uptime_s", 0)

    def others_serve(self, lab, victim):
        others = [node for node in lab.nodes if node is not victim]
        before = sum(node.metric("starling_appends_total") for node in others)
        eventually("the others serve", lambda: sum(n.metric("starling_appends_total") for n in others) > before + 20)

    def wholly_equal(self, lab):
        for what, command, at in (("all of its disk can be read", "repair", lab.nodes[1]),
                                  ("all owners have the same", "verify", lab.nodes[0])):
            eventually(what, lambda: run(STARLING, command, "--data", at.data, check=False).returncode == 0)

    def stops_at_once(self, lab, load, kind, victim, disk):
        """With an exit code of its own, and goes on as another writer once the disk is whole."""
        load.wait_sends()
        writer = self.writer(victim)
        lab.fault(f"the disk of {victim.name} says EIO to every {kind} of its store")
        disk.fail(kind, victim.name + "/store/")
        eventually("it stops", victim.ended, 10)
        self.assertGreater(disk.hits(kind), 0)
        # On a slow machine it ran for so long by now that it began again by itself: on the same disk.
        began_again = "starts again under a new writer" in victim.last_words()
        self.assertIn(victim.process.returncode, [1, FATAL] if began_again else [FATAL], victim.last_words())
        for words in ("the disk can no longer be trusted", "nothing is acknowledged that may be lost"):
            self.assertIn(words, victim.last_words())
        self.others_serve(lab, victim)
        victim.spawn()
        eventually("it does not start on such a disk", victim.ended, 30)
        self.assertNotEqual(victim.process.returncode, 0)
        disk.mend()
        victim.start()
        self.assertNotEqual(self.writer(victim), writer, "dots could be used twice")

    def does_without_no_log(self, lab, load, victim, disk):
        load.wait_sends(100)
        victim.kill()
        path = fault_disk.newest(victim.data, "*.log")
        lab.fault(f"{victim.name}, killed, cannot read its {path.name} ({path.stat().st_size} bytes)")
        disk.fail("read", f"{victim.name}/store/{path.name}")
        victim.spawn()
        eventually("it does not start without what it promised", victim.ended, 30)
        self.assertGreater(disk.hits("read"), 0)
        self.assertNotEqual(victim.process.returncode, 0)
        self.assertIn("check the disk", victim.last_words())
        self.others_serve(lab, victim)
        disk.mend()
        victim.start()

    def starts_again_by_itself(self, lab, load, victim, disk):
        eventually("it ran for long", lambda: self.uptime(victim) > RESTARTS_AFTER + 1)
        load.wait_sends()
        writer = self.writer(victim)
        lab.fault(f"one sync of {victim.name}'s store fails")
        disk.fail("sync", victim.name + "/store/", once=True)
        eventually("it happened", lambda: disk.hits("sync") == 1, 10)
        eventually("it serves again", lambda: 0 < self.uptime(victim) < RESTARTS_AFTER and victim.ready())
        self.assertFalse(victim.ended(), "the process goes on")
        self.assertNotEqual(self.writer(victim), writer)

    def test_what_a_node_cannot_sync_write_or_read_ends_its_run(self):
        with Lab(LOOPBACK, disks=fault_disk.BadDisk) as lab:
            load = lab.load(lines=6000, seconds=45)
            self.stops_at_once(lab, load, "sync", lab.nodes[1], lab.disks[1])
            self.stops_at_once(lab, load, "write", lab.nodes[1], lab.disks[1])
            self.does_without_no_log(lab, load, lab.nodes[1], lab.disks[1])
            self.starts_again_by_itself(lab, load, lab.nodes[2], lab.disks[2])
            self.proven(lab, load)
            self.wholly_equal(lab)

    def test_a_table_that_cannot_be_read_is_damage(self):
        """Not served, told of, and fetched again from the others."""
        with Lab(LOOPBACK, disks=fault_disk.BadDisk) as lab:
            lab.load(lines=2000, seconds=0).finish()
            victim, disk = lab.nodes[1], lab.disks[1]
            victim.stop()    # In order: everything is in tables then, and
            victim.start()   # nothing of them in memory.
            path = fault_disk.newest(victim.data, "*.sst")
            lab.fault(f"node 2 cannot read its {path.name} ({path.stat().st_size} bytes)")
            disk.fail("read", f"{victim.name}/store/{path.name}")
            run(STARLING, "repair", "--data", victim.data, check=False)
            self.assertGreater(disk.hits("read"), 0, "nobody read it")
            eventually("it tells", lambda: "damaged on disk" in victim.log.read_text(errors="replace"))
            load = lab.load(lines=1500, seconds=8)
            load.wait_sends()
            disk.mend()      # What is written again lies elsewhere on the disk.
            self.proven(lab, load)
            eventually("it serves", lambda: victim.ready() or victim.ended())
            if victim.ended():
                victim.start()
            self.wholly_equal(lab)


if __name__ == "__main__":
    unittest.main(verbosity=0)
