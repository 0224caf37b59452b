"""Three real nodes, a recorded load, and the faults of a real world; judged by `starling check`.

STARLING names the program. Needs root, nftables, e2fsprogs, xfsprogs and faketime (scripts/setup has
them); what is not permitted here is skipped, and says so. Each case asserts that its fault happened, and
that the judge finds a loss planted in its history. `--long` (or STARLING_FAULTS_LONG=1) does much more.

    python3 tests/e2e/faults_test.py [--long] [Case.test ...]
"""
import os
import pathlib
import shutil
import signal
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
if "--long" in sys.argv:
    sys.argv.remove("--long")
    os.environ["STARLING_FAULTS_LONG"] = "1"

import fault_clock  # noqa: E402
import fault_disk  # noqa: E402
import fault_net  # noqa: E402
from fault_lab import LONG, STARLING, TOTALS, Failure, Lab, eventually, run  # noqa: E402
from fault_proxy import Proxy  # noqa: E402

ROUNDS = 10 if LONG else 1
LOAD_SECONDS = 90  # At most: where the faults take their time it is told to stop after the last.
NO_NET = fault_net.permitted()
NO_DISKS = None if os.geteuid() == 0 and shutil.which("xfs_io") else "needs root and xfs_io"
NO_CLOCKS = None if fault_clock.library() else "needs faketime"
LOOPBACK = Proxy if NO_NET else fault_net.Namespaces
if NO_NET:
    print(f"no network namespaces here ({NO_NET}): nodes talk through a proxy of ours instead")


def tearDownModule():
    print(f"\n{TOTALS['faults']} faults, {TOTALS['messages']} acknowledged messages, "
          f"{TOTALS['deliveries']} deliveries checked", flush=True)


class Case(unittest.TestCase):
    def setUp(self):
        print(f"\n{self.id().split('.', 1)[1]}", flush=True)

    def proven(self, lab, load=None):
        """The load ends well, and its history keeps the promises; a planted loss would be found."""
        if load:
            load.finish()
        report = lab.judge()
        lab.judge_can_fail()
        return report


class Network(Case):
    def isolated_and_back(self, net):
        with Lab(net) as lab:
            for _ in range(ROUNDS):
                load = lab.load(seconds=LOAD_SECONDS)
                for number in (2, 3):
                    load.wait_sends()
                    lab.fault(f"node {number} is cut off for 5 s")
                    lab.net.isolate(number)
                    node = lab.nodes[number - 1]
                    other = lab.nodes[number % 3]
                    eventually("the others see it", lambda: other.metric("starling_members_alive") < 3, 30)
                    time.sleep(1)
                    self.assertGreater(lab.net.heal(), 0, "the cut took nothing")
                    eventually("all see all", lambda: all(n.metric("starling_members_alive") == 3 and n.ready()
                                                          for n in lab.nodes))
                load.stop()
            self.assertTrue(node.ready())
            self.proven(lab)

    @unittest.skipIf(NO_NET, f"{NO_NET}; test_a_proxy_cuts_a_node_off has it")
    def test_a_node_cut_off_comes_back(self):
        self.isolated_and_back(fault_net.Namespaces)

    def test_a_proxy_cuts_a_node_off(self):
        self.isolated_and_back(Proxy)

    @unittest.skipIf(NO_NET, NO_NET)
    def test_one_way_cuts_loss_and_doubles(self):
        with Lab(fault_net.Namespaces) as lab:
            load = lab.load()
            load.wait_sends()
            lab.fault("what node 1 says does not reach node 2, for 5 s")
            lab.net.cut(1, 2)
            time.sleep(5)
            self.assertGreater(lab.net.heal(), 0)
            lab.fault("8 % of all packets are lost, for 5 s")
            lab.net.loss(8)
            time.sleep(5)
            self.assertGreater(lab.net.loss(0), 0)
            try:
                lab.net.duplicate(20)
                lab.fault("20 % of all packets are doubled, for 4 s")
                time.sleep(4)
                self.assertGreater(lab.net.duplicate(0), 0)
            except Failure as no_hook:
                print(f"  no doubles: this kernel has no egress hook ({no_hook})")
            self.proven(lab, load)

    @unittest.skipIf(NO_NET, NO_NET)
    def test_a_slow_link_that_reorders(self):
        with Lab(fault_net.Namespaces) as lab:
            link = lab.net.link(1, 2, delay=0.02, jitter=0.04, loss=0.01, double=0.02)
            lab.fault("nodes 1 and 2: 20 to 60 ms each way, reordered, 1 % lost, 2 % doubled")
            load = lab.load(lines=1200, seconds=8)
            load.wait_sends()
            self.proven(lab, load)
            self.assertGreater(lab.net.unlink(link), 100, "the link carried nothing")


class Processes(Case):
    def test_nodes_are_killed_and_stopped_at_random(self):
        with Lab(LOOPBACK) as lab:
            for _ in range(ROUNDS):
                load = lab.load(lines=4000, seconds=LOAD_SECONDS)
                for kill in lab.random.sample((True, True, True, False), 4):
                    node = lab.random.choice(lab.nodes)
                    load.wait_sends(20)
                    if kill:
                        lab.fault(f"{node.name}: SIGKILL")
                        node.kill()
                        time.sleep(lab.random.uniform(0.1, 1.5))
                        node.start()
                    else:
                        seconds = lab.random.uniform(1, 5)
                        lab.fault(f"{node.name}: SIGSTOP for {seconds:.1f} s")
                        node.signal(signal.SIGSTOP)
                        time.sleep(seconds)
                        node.signal(signal.SIGCONT)
                        eventually("it serves again", node.ready)
                report = load.stop()
            self.assertGreater(report["reconnects"], 0, "nobody was connected to what was killed")
            self.proven(lab)

    def test_two_of_three_are_killed_and_come_back_in_either_order(self):
        with Lab(LOOPBACK) as lab:
            load = lab.load(lines=2000, seconds=LOAD_SECONDS)
            for first, second in ((0, 1), (2, 1)):
                load.wait_sends()
                lab.fault(f"{lab.nodes[0].name} and {lab.nodes[1].name}: SIGKILL at once")
                lab.nodes[0].kill()
                lab.nodes[1].kill()
                lab.nodes[2].signal(signal.SIGSTOP)   # And the third does not even know it.
                time.sleep(1)
                lab.nodes[2].signal(signal.SIGCONT)
                order = [lab.nodes[i] for i in (first, second) if i != 2]
                order += [node for node in lab.nodes[:2] if node not in order]
                for node in order:
                    node.start(wait=False)
                    time.sleep(0.5)
                eventually("all serve", lab.serving)
            load.stop()
            self.proven(lab)


class Together(Case):
    def test_a_node_is_killed_while_another_is_cut_off(self):
        """No two of three hear each other: nothing is accepted, and nothing is lost. They come back in either order."""
        with Lab(LOOPBACK) as lab:
            for _ in range(ROUNDS):
                load = lab.load(lines=3000, seconds=LOAD_SECONDS)
                for cut_off, killed in ((1, 2), (3, 1)):
                    load.wait_sends(100)
                    victim, third = lab.nodes[killed - 1], lab.nodes[5 - cut_off - killed]
                    lab.fault(f"node {cut_off} is cut off")
                    lab.net.isolate(cut_off)
                    lab.fault(f"and {victim.name} gets a SIGKILL")
                    victim.kill()
                    eventually("the third is alone", lambda: third.metric("starling_members_alive") == 1, 30)
                    before = third.metric("starling_appends_total")
                    time.sleep(2)
                    self.assertEqual(third.metric("starling_appends_total"), before, "one of three accepted something")
                    if killed == 2:
                        self.assertGreater(lab.net.heal(), 0, "the cut took nothing")
                        victim.start(wait=False)
                    else:
                        victim.start(wait=False)
                        eventually("it is up", lambda: victim.metric("starling_members_alive") > 0)
                        self.assertGreater(lab.net.heal(), 0, "the cut took nothing")
                    eventually("all see all", lambda: all(n.metric("starling_members_alive") == 3 and n.ready()
                                                          for n in lab.nodes))
                load.stop()
            self.proven(lab)


# A disk that says "synced" and is not: LD_PRELOADed, it takes the mechanism out of the node.
NO_SYNC = """
int fsync(int fd) { (void)fd; return 0; }
int fdatasync(int fd) { (void)fd; return 0; }
int sync_file_range(int fd, long a, long b, unsigned f) { (void)fd; (void)a; (void)b; (void)f; return 0; }
"""


@unittest.skipIf(NO_DISKS, NO_DISKS)
class Power(Case):
    def cut(self, lab, numbers):
        victims = [lab.nodes[number - 1] for number in numbers]
        lab.fault(f"power is cut at {', '.join(node.name for node in victims)}")
        for node in victims:
            lab.disks[node.number - 1].cut_power()
        for node in victims:
            node.kill()
            lab.disks[node.number - 1].power_back()

    def test_power_cuts_lose_nothing(self):
        with Lab(LOOPBACK, disks=fault_disk.PowerDisk) as lab:
            for _ in range(ROUNDS):
                load = lab.load(lines=4000, seconds=LOAD_SECONDS)
                for numbers in [(1,), (2, 3), (1, 2, 3)]:
                    load.wait_sends(100)
                    self.cut(lab, numbers)
                    for number in numbers:
                        lab.nodes[number - 1].start(wait=False)
                    eventually("all serve", lab.serving)
                load.stop()
            self.proven(lab)

    def test_a_node_that_does_not_sync_is_found_out(self):
        with Lab(LOOPBACK, disks=fault_disk.PowerDisk) as lab:
            source, library = lab.folder / "nosync.c", lab.folder / "nosync.so"
            source.write_text(NO_SYNC)
            run("gcc", "-shared", "-fPIC", "-O1", "-o", library, source)
            for node in lab.nodes:
                node.stop()
                node.env["LD_PRELOAD"] = str(library)
                run("sync", "-f", lab.disks[node.number - 1].point)
            for node in lab.nodes:
                node.start(wait=False)
            eventually("all serve", lab.serving)
            lab.load(lines=4000, seconds=0).finish()   # Makes the users.
            # What is there now is safe; what comes is not.
            for disk in lab.disks:
                run("sync", "-f", disk.point)
            load = lab.load(patience=15)
            load.wait_sends(400)
            self.cut(lab, (1, 2, 3))
            for node in lab.nodes:
                node.env.pop("LD_PRELOAD")
                node.start(wait=False)
            time.sleep(5)
            if any(node.ended() for node in lab.nodes):
                return print("  found out: a store does not open")
            load.finish(code=1)
            report = lab.judge(expect="fail")
            self.assertGreater(report["faults"]["lost"], 0)
            print(f"  found out: {report['faults']['lost']} deliveries lost")


@unittest.skipIf(NO_DISKS, NO_DISKS)
class Disks(Case):
    def test_a_full_disk_makes_a_node_read_only_until_there_is_room(self):
        with Lab(LOOPBACK, disks=fault_disk.SmallDisk) as lab:
            victim, others = lab.nodes[1], (lab.nodes[0], lab.nodes[2])
            load = lab.load(lines=3000, seconds=LOAD_SECONDS)
            load.wait_sends()
            lab.fault("the disk of node 2 is full up to 12 MiB, the limit is 16")
            lab.disks[1].fill(leave=12 << 20)
            eventually("it is read-only", lambda: victim.metric("starling_read_only") == 1, 30)
            self.assertEqual(victim.state(), "read-only")
            self.assertIsNotNone(victim.get("/healthz"), "it lives")
            self.assertTrue(victim.ready(), "other owners take the sends of its clients")
            before = [node.metric("starling_appends_total") for node in others]
            time.sleep(3)
            self.assertFalse(victim.ended(), "it met the full disk before RocksDB did")
            self.assertGreater(sum(node.metric("starling_appends_total") for node in others), sum(before))
            lab.disks[1].make_room()
            eventually("it recovers by itself", lambda: victim.ready() and victim.state() == "serving")
            self.assertEqual(victim.metric("starling_read_only"), 0)
            load.stop()
            self.proven(lab)

    def flipped(self, lab, pattern, at):
        """Node 3, killed and with one bit flipped, is started. It."""
        node = lab.nodes[2]
        node.kill()
        path = fault_disk.newest(node.data, pattern)
        lab.fault(f"one bit of node 3's {path.name} ({path.stat().st_size} bytes) is flipped")
        fault_disk.flip_bit(path, at)
        node.spawn()
        return node, path

    def test_flipped_bits_are_never_served(self):
        with Lab(LOOPBACK) as lab:
            lab.load(lines=1500, seconds=0).finish()
            for pattern in ("*.log", "MANIFEST-*"):
                node, path = self.flipped(lab, pattern, 0.5)
                # docs/storage.md: it refuses to open, and says what to do.
                eventually("it refuses", node.ended, 30)
                self.assertEqual(node.process.returncode, 1, node.last_words())
                self.assertIn("set the data folder aside", node.last_words())
                fault_disk.flip_bit(path, 0.5)  # The operator finds a good copy of the file.
                node.start()
            # A stop in order moves everything into tables.
            node.stop()
            node.start()
            tables = list(pathlib.Path(node.data).glob("store/*.sst"))
            if tables:
                node, path = self.flipped(lab, "*.sst", 0.3)
                try:
                    node.wait_ready(30)
                except Failure:
                    self.assertIn("set the data folder aside", node.last_words())
                    fault_disk.flip_bit(path, 0.3)
                    node.start()
            lab.load(lines=1500, seconds=0).finish()
            for what, command, at in (("all of its disk can be read", "repair", node),
                                      ("all owners have the same", "verify", lab.nodes[0])):
                eventually(what, lambda: run(STARLING, command, "--data", at.data, check=False).returncode == 0)
            self.proven(lab)


@unittest.skipIf(NO_CLOCKS, NO_CLOCKS)
class Clocks(Case):
    def test_a_wrong_clock_neither_erases_nor_poisons(self):
        lab = Lab(LOOPBACK)
        clocks = [fault_clock.Clock(node) for node in lab.nodes]
        with lab:
            load = lab.load(lines=4000, seconds=LOAD_SECONDS)
            for number, seconds in ((2, -600), (3, 86_400)):
                node = lab.nodes[number - 1]
                load.wait_sends()
                lab.fault(f"the clock of node {number} steps by {seconds} s")
                clocks[number - 1].step(seconds)
                eventually("it notices", lambda: node.metric("starling_clock_off") == 1, 30)
                before = sum(n.metric("starling_appends_total") for n in lab.nodes if n is not node)
                eventually("the others go on", lambda: sum(
                    n.metric("starling_appends_total") for n in lab.nodes if n is not node) > before + 20)
                clocks[number - 1].step(0)
                eventually("it agrees again", lambda: node.metric("starling_clock_off") == 0 and node.ready(), 60)
                self.assertEqual(node.state(), "serving")
            load.stop()
            self.proven(lab)
            # And nothing of the wrong time is left in the cluster's clock.
            lab.load(seconds=0).finish()
            lab.judge()


if __name__ == "__main__":
    unittest.main(verbosity=0)
