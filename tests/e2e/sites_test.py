"""Two sites of real nodes, 40 ms apart each way, under the policy 2+1: one site is lost, and comes back; people
write while the way between them is cut, one restarts, and one is lost.

STARLING names the program. Needs root and nftables; where that is not permitted the test is skipped, and says so.
"""
import contextlib
import json
import pathlib
import signal
import statistics
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import fault_net  # noqa: E402
from fault_lab import STARLING, TOTALS, Lab, eventually, run, say  # noqa: E402

NO_NET = fault_net.permitted()
EAST, WEST = (1, 3), (2, 4)
DELAY = 0.040
LOAD_SECONDS = 300     # At most: it is told to stop when the faults are over.
LINES_PER_SECOND = 40


class Sites(unittest.TestCase):
    def starling(self, node, *words):
        return run(STARLING, *words, "--data", node.data).stdout

    def asked(self, node, *words):
        return json.loads(self.starling(node, *words, "--json"))

    def send(self, lab, node, group, text, grade="quorum"):
        """Milliseconds to the acknowledgement."""
        return self.asked(node, "send", group, text, "--user", "@ann", "--password", self.password,
                          "--state", lab.folder / f"ann{node.number}", "--grade", grade)["ms"]

    def texts(self, lab, node, group):
        """What a new device reads there."""
        state = lab.folder / f"read{lab.random.random()}"
        lines = run("timeout", 3, STARLING, "tail", "--from", group, "--history", 100, "--json", "--user", "@ann",
                    "--password", self.password, "--state", state, "--data", node.data, check=False).stdout
        return [json.loads(line).get("text") for line in lines.splitlines()]

    def group_at_home_in(self, lab, zone):
        there = {member["short"] for member in self.asked(lab.nodes[0], "ring")["members"] if member["zone"] == zone}
        for name in (f"#{zone}{number}" for number in range(99)):
            owners = self.asked(lab.nodes[0], "where", name)["owners"]
            if all(owner["short"] in there for owner in owners if owner["home"]):
                self.starling(lab.nodes[0], "group", "create", name, "@ann")
                return name
        self.fail(f"no group has its home in {zone}")

    @contextlib.contextmanager
    def two_sites(self):
        lab = Lab(fault_net.Namespaces, nodes=4)
        links = [lab.net.link(one, other, DELAY, 0.001) for one in EAST for other in WEST]
        for node in lab.nodes:
            node.words = ["--zone", "east" if node.number in EAST else "west", "--sites", "2+1", "--partitions", 64]
        with lab:
            self.both_sites_are_home(lab)
            yield lab
            for link in links:
                self.assertGreater(lab.net.unlink(link), 100, "a link between the sites carried nothing")

    @unittest.skipIf(NO_NET, NO_NET)
    def test_a_site_is_lost_and_comes_back(self):
        with self.two_sites() as lab:
            self.an_ack_does_not_wait(lab)
            lab.load(lines=300, seconds=4).finish()
            lab.judge()
            lab.judge_can_fail()
            group = self.lose(lab)
            self.return_the_lost(lab)
            self.assertEqual(self.texts(lab, lab.nodes[0], group), ["early", "late", "after"])

    @unittest.skipIf(NO_NET, NO_NET)
    def test_people_write_through_a_cut_a_restart_and_a_loss(self):
        with self.two_sites() as lab:
            load = lab.load(lines=LINES_PER_SECOND * LOAD_SECONDS, seconds=LOAD_SECONDS)
            load.wait_sends(100)
            self.cut(lab)
            lab.fault("the way between the sites is cut")
            eventually("they miss each other", lambda: self.alive(lab) == [2, 2, 2, 2])
            load.wait_sends(100)
            self.assertGreater(lab.net.heal(), 0)
            eventually("they see each other", lambda: self.alive(lab) == [4, 4, 4, 4] and lab.serving())
            load.wait_sends(100)
            for number in WEST:
                lab.nodes[number - 1].kill()
            lab.fault("the west is killed")
            eventually("the west is missed", lambda: self.alive(lab, EAST) == [2, 2])
            load.wait_sends(100)
            for number in WEST:
                lab.nodes[number - 1].spawn()
            eventually("all serve", lambda: self.alive(lab) == [4, 4, 4, 4] and lab.serving())
            load.wait_sends(100)
            self.cut(lab)
            for number in WEST:
                lab.nodes[number - 1].kill()
            lab.fault("the west is gone for good, as far as anybody knows")
            eventually("the west is missed", lambda: self.alive(lab, EAST) == [2, 2])
            self.starling(lab.nodes[0], "remove", "--zone", "west", "--force")
            east = lab.nodes[0].metric("starling_sends_total") + 100
            eventually("the east takes what people write", lambda: lab.nodes[0].metric("starling_sends_total") > east)
            self.return_the_lost(lab)
            load.wait_sends(100)
            load.stop()
            lab.judge()

    def alive(self, lab, numbers=(1, 2, 3, 4)):
        return [lab.nodes[number - 1].metric("starling_members_alive") for number in numbers]

    def cut(self, lab):
        for one in EAST:
            for other in WEST:
                lab.net.cut(one, other)
                lab.net.cut(other, one)

    def both_sites_are_home(self, lab):
        sites = self.asked(lab.nodes[0], "sites")
        self.assertTrue(sites["in_force"], sites)
        self.assertEqual((sites["home_copies"], sites["away_copies"]), (2, 1))
        self.assertEqual({zone["zone"]: zone["nodes"] for zone in sites["zones"]}, {"east": 2, "west": 2})
        for zone in sites["zones"]:
            self.assertGreater(zone["home_of"], 20, sites)

    def an_ack_does_not_wait(self, lab):
        added = run(STARLING, "user", "add", "ann", "--generate", "--json", "--data", lab.nodes[0].data).stdout
        self.password = json.loads(added)["results"][0]["password"]
        group = self.group_at_home_in(lab, "east")
        near = [self.send(lab, lab.nodes[0], group, "near") for _ in range(5)]
        both = [self.send(lab, lab.nodes[0], group, "both", "all") for _ in range(3)]
        say(f"acknowledged after {near} ms; with the away copy after {both} ms")
        self.assertLess(statistics.median(near), 2000 * DELAY, "an acknowledgement waited for the other site")
        self.assertGreaterEqual(min(both), 2000 * DELAY, "the sites are not so far apart")

    def lose(self, lab):
        """The west accepts what does not reach the east any more, and is gone."""
        group = self.group_at_home_in(lab, "west")
        self.send(lab, lab.nodes[0], group, "early")
        self.cut(lab)
        self.send(lab, lab.nodes[1], group, "late")
        for number in WEST:
            lab.nodes[number - 1].kill()
        lab.fault("the west is gone, and so is the way there: kernels would go on sending for the dead")

        def refused():
            return run(STARLING, "remove", "--zone", "west", "--data", lab.nodes[0].data, check=False).stderr

        eventually("the west is missed", lambda: "--force" in refused())
        forced = self.asked(lab.nodes[0], "remove", "--zone", "west", "--force")
        self.assertGreater(forced["site"]["taken_over"], 20)
        self.assertGreater(forced["site"]["newest_ms"], 0)
        eventually("the east serves", lambda: all(lab.nodes[number - 1].ready() for number in EAST))
        self.assertLess(self.send(lab, lab.nodes[0], group, "after"), 2000 * DELAY)
        self.assertEqual(self.texts(lab, lab.nodes[0], group), ["early", "after"])
        return group

    def return_the_lost(self, lab):
        self.assertGreater(lab.net.heal(), 0)
        for number in WEST:
            lab.nodes[number - 1].spawn()
        for number in WEST:
            eventually("a node of the west handed over what it had",
                       lambda: lab.nodes[number - 1].state() == "safe to power off")
            lab.nodes[number - 1].signal(signal.SIGTERM)


def tearDownModule():
    print(f"\n{TOTALS['faults']} faults, {TOTALS['messages']} acknowledged messages, "
          f"{TOTALS['deliveries']} deliveries checked", flush=True)


if __name__ == "__main__":
    unittest.main()
