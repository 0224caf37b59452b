"""The ring breathes: real nodes join, leave, are removed, replaced and revoked while people write, are killed or cut off
midway, and operators change their minds. Judged by `starling check`, which has to find a planted loss, and by `starling verify`.

STARLING names the program. Where namespaces are not permitted nodes talk through a proxy of ours. So that there is a
midway, the copying is throttled; each case sees bytes that came and bytes that lack before its fault. `--long` (or
STARLING_FAULTS_LONG=1) breathes up to ten nodes instead of five.

    python3 tests/e2e/breathing_test.py [--long] [Case.test ...]
"""
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
if "--long" in sys.argv:
    sys.argv.remove("--long")
    os.environ["STARLING_FAULTS_LONG"] = "1"

import fault_net  # noqa: E402
from fault_lab import LONG, STARLING, TOTALS, Failure, Lab, clean_environment, eventually, run, say  # noqa: E402
from fault_proxy import Proxy  # noqa: E402

NO_NET = fault_net.permitted()
NET = Proxy if NO_NET else fault_net.Namespaces
MOST = 10 if LONG else 5      # Nodes that 3 become, and that become 3.
PARTITIONS = 512 if LONG else 128
LINES = 40_000 if LONG else 4000   # 4000: about half a MB for a fourth node.
PEOPLE = {"users": 12, "rooms": 60}   # Of four rooms those who gain might gain none.
LOAD_SECONDS = 900 if LONG else 120   # At most: it is told to stop when the case is over.
SLOW = "64K"                  # The least that a throttle takes.
MOVE_SECONDS = 180            # For a change of the ring, on a machine that does other things too.


def tearDownModule():
    print(f"\n{TOTALS['faults']} faults, {TOTALS['messages']} acknowledged messages, "
          f"{TOTALS['deliveries']} deliveries checked", flush=True)


class Case(unittest.TestCase):
    def setUp(self):
        print(f"\n{self.id().split('.', 1)[1]}", flush=True)

    @contextlib.contextmanager
    def cluster(self, nodes, later=0):
        """Nodes that have something to move, and people who write while the case runs. Then the proof."""
        lab = Lab(NET, nodes=nodes, later=later)
        for node in lab.nodes:
            node.words = ["--partitions", PARTITIONS]
        with lab:
            lab.load(lines=LINES, seconds=0, **PEOPLE).finish()
            self.lab = lab
            self.throttled(SLOW)
            self.load = lab.load(seconds=LOAD_SECONDS, **PEOPLE)
            self.load.wait_sends()
            yield lab.nodes
            self.load.stop()
            lab.judge()
            lab.judge_can_fail()
            at = next(node for node in lab.nodes if not node.ended())
            eventually("all owners have the same", lambda: self.starling(at, "verify", code=None).returncode == 0)

    # --- An operator. ---

    def starling(self, node, *words, code=0, stdin=""):
        """At that node. `code` None: whatever it ends with."""
        done = run(STARLING, *words, "--data", node.data, check=False, stdin=stdin, seconds=MOVE_SECONDS)
        if code is not None:
            self.assertEqual(done.returncode, code, f"{words}\n{done.stdout}\n{done.stderr}")
        return done

    def asked(self, node, *words):
        return json.loads(self.starling(node, *words, "--json").stdout)

    def begun(self, node, *words):
        """A command that goes on while the case does. Its process, and the file of what it says."""
        said = tempfile.NamedTemporaryFile("w+")
        self.lab.stack.enter_context(said)
        process = subprocess.Popen([STARLING, *map(str, words), "--data", str(node.data)], stdout=said,
                                   stderr=subprocess.STDOUT, text=True, env=clean_environment())
        self.lab.stack.callback(process.kill)
        return process, pathlib.Path(said.name)

    def says(self, command, words):
        """Until the command has said so."""
        eventually(f"it says '{words}'", lambda: words in command[1].read_text(), MOVE_SECONDS)

    def ended(self, command, code=0):
        """What the command said."""
        process, said = command
        process.wait(timeout=MOVE_SECONDS)
        self.assertEqual(process.returncode, code, said.read_text())
        return said.read_text()

    def throttled(self, rate):
        """On all nodes that run; the others hear of it when they are back."""
        self.starling(next(node for node in self.lab.nodes if not node.ended()), "throttle", rate)

    def killed(self, node):
        self.lab.fault(f"{node.name}: SIGKILL")
        node.kill()

    def me(self, node):
        return self.asked(node, "status")["node"]

    def members(self, node, *states):
        """Short ids of the members in these states."""
        return {member["short"] for member in self.asked(node, "ring")["members"] if member["state"] in states}

    def in_state(self, node, state, count):
        """Until that node knows of so many: who asked for a change may know of its end before."""
        eventually(f"{count} are {state}", lambda: len(self.members(node, state)) == count)

    def change(self, node):
        return self.asked(node, "ring")["change"]

    # --- Where a change of the ring is. ---

    def moved(self, at):
        """Bytes that came, and that lack, to those who gain by the change under way; as `at` knows it."""
        movement = self.asked(at, "ring", "--diff")
        nodes = movement["nodes"] if movement["change"] else []
        return sum(node.get("bytes", 0) for node in nodes), sum(node.get("bytes_left", 0) for node in nodes)

    def midway(self, at):
        """Until some of what the change moves has come, and not all."""
        seen = (0, 0)

        def there():
            nonlocal seen
            seen = self.moved(at)
            return seen[0] > 0 and seen[1] > 0
        eventually("something has moved", there)
        self.assertTrue(self.load.running(), "nobody writes any more")
        say(f"midway: {seen[0]} bytes came, about {seen[1]} lack")

    def safe(self, node):
        """Until it has handed home what it has."""
        try:
            eventually("it is safe to power off", lambda: node.state() == "safe to power off")
        except Failure as failure:
            status = self.starling(node, "status", code=None)
            raise Failure(f"{failure}\n{status.stdout}{status.stderr}{node.last_words()}") from None

    def serves(self, node):
        """Until it does, as one of the ring and caught up."""
        node.wait_ready(MOVE_SECONDS)
        eventually("it is serving", lambda: self.me(node)["state"] == "serving")


class Breath(Case):
    def test_three_become_many_and_three_again(self):
        """All but one of those that are there in the end joined; that one the load knows (replay --cluster)."""
        with self.cluster(MOST, later=MOST - 3) as nodes:
            stay = [nodes[2], *nodes[-2:]]
            for joiner in nodes[3:]:
                self.lab.fault(f"{joiner.name} joins")
                self.lab.join(joiner)
                self.midway(nodes[0])
                self.throttled("off")
                self.serves(joiner)
                self.throttled(SLOW)
            for leaver in [node for node in nodes if node not in stay]:
                self.lab.fault(f"{leaver.name} leaves")
                leaving = self.begun(leaver, "leave")
                self.midway(nodes[-1])
                self.throttled("off")
                self.assertTrue(self.ended(leaving).endswith("safe to power off\n"))
                self.assertEqual(self.me(leaver)["state"], "safe to power off")
                leaver.stop()
                self.throttled(SLOW)
            names = {self.me(node)["short"] for node in stay}
            eventually("all others are gone", lambda: self.members(nodes[-1], "serving") == names)


class Killed(Case):
    def test_a_joiner_killed_midway_goes_on(self):
        with self.cluster(4, later=1) as nodes:
            at, joiner = nodes[0], nodes[3]
            self.lab.join(joiner)
            self.midway(at)
            self.killed(joiner)
            self.assertEqual(self.change(at), "join")
            self.assertIn("no answer", self.starling(at, "ring", "--diff").stdout)
            joiner.spawn()
            self.throttled("off")
            self.serves(joiner)
            self.in_state(at, "serving", 4)

    def test_a_leaver_killed_midway_is_safe_when_it_was_back(self):
        """The others get what it owned from each other; only it knows what it alone has."""
        with self.cluster(4) as nodes:
            at, leaver = nodes[0], nodes[3]
            name = self.me(leaver)["short"]
            leaving = self.begun(at, "leave", name)
            self.midway(at)
            self.killed(leaver)
            self.assertEqual(self.change(at), "leave")
            self.throttled("off")
            eventually("it has left", lambda: self.members(at, "left") == {name}, MOVE_SECONDS)
            self.assertIn("no answer", self.starling(at, "ring", "--diff").stdout)
            self.says(leaving, f"waiting: node {name} left and does not answer")
            leaver.spawn()
            said = self.ended(leaving)
            self.assertTrue(said.endswith("safe to power off\n"))
            self.assertEqual(self.me(leaver)["state"], "safe to power off")
            leaver.stop()
            self.in_state(at, "serving", 3)

    def test_a_joiner_does_without_a_donor_killed_midway(self):
        with self.cluster(4, later=1) as nodes:
            at, donor, joiner = nodes[0], nodes[1], nodes[3]
            self.lab.join(joiner)
            self.midway(at)
            self.killed(donor)
            self.assertEqual(self.change(at), "join")
            self.assertGreater(self.moved(at)[1], 0, "all had come before")
            self.throttled("off")
            self.serves(joiner)
            self.assertTrue(donor.ended())
            donor.spawn()
            self.serves(donor)
            self.in_state(at, "serving", 4)


class Together(Case):
    def test_two_joins_and_a_leave_at_once(self):
        """One goes first; the second joiner waits by itself, the leave is refused until its turn."""
        with self.cluster(6, later=2) as nodes:
            at, leaver, first, second = nodes[0], nodes[1], nodes[4], nodes[5]
            self.lab.join(first)
            self.midway(at)
            self.lab.fault("another node joins, and a third shall leave")
            self.lab.join(second)
            refused = self.starling(leaver, "leave", code=5)
            self.assertIn("another change is under way: wait until it completes, or abort it", refused.stderr)
            eventually("the second joiner says why it waits", lambda: (
                "another change of the ring is under way" in second.log.read_text()))
            self.assertEqual((self.change(at), len(self.members(at, "joining"))), ("join", 1))
            self.throttled("off")
            eventually("it leaves", lambda: self.starling(leaver, "leave", code=None).returncode == 0, MOVE_SECONDS)
            self.serves(first)
            self.serves(second)
            self.assertEqual(self.me(leaver)["state"], "safe to power off")
            leaver.stop()
            self.in_state(at, "serving", 5)


class Cut(Case):
    def test_a_joiner_cut_off_midway_goes_on(self):
        with self.cluster(4, later=1) as nodes:
            at, joiner = nodes[0], nodes[3]
            self.lab.join(joiner)
            self.midway(at)
            self.lab.fault("the joiner is cut off")
            self.lab.net.isolate(joiner.number)
            name = self.me(joiner)["short"]
            eventually("the change waits for it", lambda: (
                f"node {name}, which joins, is away" in self.asked(at, "ring", "--diff")["waits_for"]))
            self.assertEqual(self.change(joiner), "join")
            self.assertGreater(self.lab.net.heal(), 0, "the cut took nothing")
            self.throttled("off")
            self.serves(joiner)
            self.in_state(at, "serving", 4)

    def split(self, one, other):
        self.lab.fault(f"{' '.join(n.name for n in one)} and {' '.join(n.name for n in other)} hear each other no more")
        for here in one:
            for there in other:
                self.lab.net.cut(here.number, there.number)
                self.lab.net.cut(there.number, here.number)
        for side in (one, other):
            eventually("the others are missed", lambda: all(
                n.metric("starling_members_alive") == len(side) for n in side))

    def healed(self, nodes):
        self.assertGreater(self.lab.net.heal(), 0, "the cut took nothing")
        eventually("all see all", lambda: all(n.metric("starling_members_alive") == len(nodes) and n.ready()
                                              for n in nodes))

    def weighed(self, node, *words):
        """Somebody at that node wants three times its share. The command, under way."""
        return self.begun(node, "weight", self.me(node)["short"], 300, *words)

    def refused(self, process):
        """A change without a majority ends by itself, and says so."""
        said = self.ended(process, code=5)
        say(said.strip())
        self.assertIn("no majority", said)

    def agreed(self, nodes):
        """The weights, when the change is complete and everybody has the same ring."""
        same = lambda: len({self.asked(node, "ring")["number"] for node in nodes}) == 1  # noqa: E731
        eventually("all have the same ring", lambda: same() and not self.change(nodes[0]), MOVE_SECONDS)
        weights = {member["short"]: member["weight"] for member in self.asked(nodes[0], "ring")["members"]}
        return [weights[self.me(node)["short"]] for node in nodes]

    def test_only_a_majority_changes_the_ring(self):
        with self.cluster(5) as nodes:
            self.split(nodes[:3], nodes[3:])
            minority = self.weighed(nodes[3])
            majority = self.weighed(nodes[0])
            self.midway(nodes[0])
            self.refused(minority)
            self.assertEqual((self.change(nodes[0]), self.change(nodes[3])), ("weight", ""))
            self.healed(nodes)
            self.throttled("off")
            self.assertIn("done\n", self.ended(majority))
            self.assertEqual(self.agreed(nodes), [300, 100, 100, 100, 100])

    def test_no_half_changes_the_ring(self):
        with self.cluster(4) as nodes:
            begun = self.weighed(nodes[0], "--no-wait")
            self.ended(begun)
            self.midway(nodes[0])
            self.split(nodes[:2], nodes[2:])
            halves = [self.begun(nodes[at], "abort") for at in (0, 2)]
            for half in halves:
                self.refused(half)
            self.healed(nodes)
            self.throttled("off")
            self.assertEqual(self.agreed(nodes), [300, 100, 100, 100])


class Dead(Case):
    def removed(self, node, at):
        """It is killed, and shall be removed. Its short id."""
        name = self.me(node)["short"]
        self.killed(node)
        eventually("it may be removed", lambda: (
            self.starling(at, "remove", name, "--no-wait", code=None).returncode == 0))
        return name

    def test_a_removed_node_returns(self):
        with self.cluster(4) as nodes:
            at, victim = nodes[0], nodes[3]
            for midway in (True, False):
                name = self.removed(victim, at)
                if midway:
                    self.midway(at)
                    self.lab.fault("it returns")
                    victim.spawn()
                    self.assertEqual(self.change(at), "remove")
                    self.throttled("off")
                eventually("it is removed", lambda: self.members(at, "removed") >= {name}, MOVE_SECONDS)
                if not midway:
                    self.lab.fault("it returns")
                    victim.spawn()
                self.safe(victim)
                victim.stop()
                self.lab.join(victim)
                self.serves(victim)
            self.in_state(at, "serving", 4)
            self.in_state(at, "removed", 2)

    def test_a_dead_one_is_replaced_by_one_that_is_killed_midway(self):
        with self.cluster(4, later=1) as nodes:
            at, dead, successor = nodes[0], nodes[2], nodes[3]
            me = self.me(dead)
            self.lab.join(successor, f"replace {me['id']} -")
            eventually("a live one is not replaced", successor.ended)
            self.assertIn(f"node {me['short']}, which shall be replaced, is alive", successor.last_words())
            self.killed(dead)
            eventually("it is missed", lambda: at.metric("starling_members_alive") == 2)
            self.lab.join(successor, f"replace {me['id']} -")
            self.midway(at)
            self.killed(successor)
            self.assertEqual(self.change(at), "replace")
            successor.spawn()
            self.throttled("off")
            self.serves(successor)
            eventually("it is removed", lambda: self.members(at, "removed") == {me["short"]})
            self.in_state(at, "serving", 3)


class Operator(Case):
    def rests(self, at):
        """Until nothing comes any more, while people write."""
        def still():
            came = self.moved(at)
            self.load.wait_sends(100)
            return self.moved(at) == came
        eventually("nothing is copied", still)

    def keys(self, node):
        return [key["id"] for key in self.asked(node, "key", "list")["keys"]]

    def test_a_join_is_paused_taken_back_and_asked_for_again(self):
        with self.cluster(4, later=1) as nodes:
            at, joiner = nodes[0], nodes[3]
            self.lab.join(joiner)
            self.midway(at)
            self.lab.fault("the copying is paused, and the joiner killed meanwhile")
            self.starling(at, "pause")
            self.rests(at)
            self.killed(joiner)
            joiner.spawn()
            eventually("it waits", lambda: "the copying is paused" in self.asked(at, "ring", "--diff")["waits_for"])
            self.load.wait_sends(100)
            self.starling(nodes[1], "resume")
            self.midway(at)
            self.lab.fault("the join is taken back")
            self.starling(nodes[2], "abort")
            eventually("the joiner ends", joiner.ended)
            self.assertIn("the join was taken back (starling abort", joiner.last_words())
            eventually("all is as before", lambda: (self.change(at), len(self.members(at, "serving"))) == ("", 3))
            shutil.rmtree(joiner.data)
            self.lab.join(joiner)
            self.midway(at)
            self.throttled("off")
            self.serves(joiner)
            self.in_state(at, "serving", 4)

    def test_keys_change_and_a_node_that_goes_on_is_revoked(self):
        with self.cluster(4) as nodes:
            at, away, bad = nodes[0], nodes[1], nodes[3]
            self.lab.fault("a new key")
            self.assertEqual(len(self.asked(at, "key", "rotate")["taken"]), 4)
            self.killed(away)
            eventually("it is missed", lambda: at.metric("starling_members_alive") == 3)
            self.lab.fault("another new key, of which it does not know")
            self.assertEqual(len(self.asked(at, "key", "rotate")["away"]), 1)
            away.spawn()
            self.serves(away)
            eventually("it learns the key", lambda: self.keys(away) == self.keys(at))

            name = self.me(bad)["short"]
            self.lab.fault("a node is revoked, and goes on")
            self.starling(bad, "drain")   # What it would show to its devices is nobody's promise.
            eventually("it may be revoked", lambda: self.starling(at, "revoke", name, code=None).returncode == 0)
            self.midway(at)
            self.assertFalse(bad.ended())
            self.load.wait_sends()
            self.killed(bad)
            self.throttled("off")
            eventually("the others have its place", lambda: (
                self.members(at, "removed") == {name} and not self.change(at)), MOVE_SECONDS)
            others = nodes[:3]
            made = self.asked(at, "key", "rotate", "--retire-after", 0)["key"]
            eventually("it is the only one", lambda: all(self.keys(node) == [made] for node in others))
            self.lab.fault("the revoked node is started again")
            bad.spawn()
            eventually("it is up", lambda: bad.get("/metrics") is not None)
            self.load.wait_sends(150)
            self.assertFalse(bad.ready())
            self.assertEqual([node.metric("starling_members_alive") for node in others], [3, 3, 3])
            self.killed(bad)


class Twin(Case):
    def test_a_node_whose_identity_is_present_ends(self):
        """A folder is copied while its node stands still, and joins while that serves again."""
        with self.cluster(4, later=1) as nodes:
            at, original, twin = nodes[0], nodes[2], nodes[3]
            original.stop()
            shutil.copytree(original.data, twin.data, ignore=shutil.ignore_patterns("*.sock", "addresses.json"))
            original.spawn()
            self.serves(original)
            writer = self.me(original)["writer"]
            for command, why in (("join -", "it is an older copy"), ("run", "its data folder was copied")):
                self.lab.fault(f"a copy of {original.name} is started")
                if command == "run":
                    twin.spawn()
                else:
                    self.lab.join(twin)
                eventually("the copy ends", twin.ended)
                self.assertIn(why, twin.last_words())
                self.load.wait_sends(100)
            self.assertFalse(original.ended(), original.last_words())
            self.assertEqual(self.me(original)["writer"], writer, "the node itself began anew")
            self.serves(original)
            self.in_state(at, "serving", 3)


if __name__ == "__main__":
    unittest.main(verbosity=0)
