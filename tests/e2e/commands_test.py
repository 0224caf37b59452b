"""Every command that changes who is in a cluster, once, on four real nodes: the words and the exit codes that an
operator sees, for people and with --json.

STARLING names the program. One cluster serves all tests; each leaves four nodes that serve, and no change under way.
"""
import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
import unittest
import urllib.error
import urllib.request

import fault_clock
from cluster_test import FREE, SECONDS, STARLING, Case, environment

NODES = 4
LINES = 6000         # So that a change moves for some seconds at the slowest throttle, whoever gains: in many rooms.
SLOW = "64K"
COLUMNS = 140
STAKE = ("2 copies of each message instead of 3, nobody can send while 1 of 2 owners is down, and the loss of 2 disks loses "
         "messages")
REDRAWN = "\r\x1b[K"
PROGRESS = re.compile(r"\[[#-]{24}\] +\d+ %  fetching: \d+ of \d+ partitions, [\d.]+ [KM]?i?B of about [\d.]+ [KM]?i?B, "
                      r"[\d.]+ [KM]?i?B/s  ~\d+ s left")


class Terminal:
    """A program on a terminal of its own, and all that it wrote there."""

    def __init__(self, words, stdin, cwd):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
        self.text = ""
        self.file = os.fdopen(master, "rb", buffering=0)
        self.process = subprocess.Popen(list(map(str, words)), stdin=subprocess.PIPE, stdout=slave, stderr=slave,
                                        env=environment(), cwd=cwd)
        os.close(slave)
        os.set_blocking(master, False)
        self.process.stdin.write(stdin.encode())
        self.process.stdin.close()

    def read(self):
        with contextlib.suppress(OSError):   # Nothing yet, or the program has ended.
            while more := self.file.read(1 << 16):
                self.text += more.decode()
        return self.text

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.file.close()


class Commands(Case):
    @classmethod
    def setUpClass(cls):
        first = cls()
        Case.setUp(first)
        cls.addClassCleanup(first.doCleanups)
        cls.folder = first.dir
        cls.addClassCleanup(first.cluster, "down", "--wipe")
        first.cluster("up", str(NODES), "--", "--partitions", "128", "--free-space-min", "16")
        first.starling("replay", "--generate", "--limit", LINES, "--users", 12, "--rooms", 60, "--devices", 1, "--speed", 0,
                       "--verify-fresh", 0, "--cluster", first.dir / "c", seconds=3 * SECONDS)

    def setUp(self):
        self.dir = self.folder
        self.addCleanup(self.rest)

    def rest(self):
        """Also after a failure: the next test is another matter."""
        if self.asked(1, "ring")["change"]:
            self.at(1, "abort")
        self.at(1, "resume")
        self.at(1, "throttle", "off")

    # --- An operator. ---

    def at(self, number, *words, code=0, **more):
        return self.starling(*words, "--data", self.node(number), code=code, **more)

    def asked(self, number, *words):
        return json.loads(self.at(number, *words, "--json").stdout)

    def refused(self, number, *words, code, text):
        """For people and for programs in the same way."""
        for form in ([], ["--json"]):
            done = self.at(number, *words, *form, code=code)
            self.assertIn(text, done.stderr)
            self.assertEqual(done.stdout, "")

    def short(self, number):
        return self.asked(number, "status")["node"]["short"]

    def serving(self):
        return [member["short"] for member in self.asked(1, "ring")["members"] if member["state"] == "serving"]

    def serve(self, count):
        """Until node 1 knows of so many: who asked for a change may know of its end before."""
        self.eventually(f"{count} serve", lambda: len(self.serving()) == count)

    def door(self, number, path):
        """The status of an answer at the admin port."""
        admin = json.loads((self.node(number) / "addresses.json").read_text())["admin"]
        try:
            with urllib.request.urlopen(f"http://{admin}{path}", timeout=SECONDS) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def join(self, number, *words):
        token = self.at(1, "invite").stdout
        joiner = Terminal([STARLING, "join", "-", "--data", self.node(number), *FREE, "--free-space-min", 16,
                           "--log-file", self.dir / f"joiner{number}.log", *words], token, self.dir)
        joiner.token = token.strip()
        self.addCleanup(joiner.kill)
        return joiner

    def ends(self, process):
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(SECONDS), 0)

    # --- The commands. ---

    def test_invite(self):
        made = self.at(1, "invite", "--expires", 10)
        self.assertRegex(made.stdout, r"^starling1-[\w-]+\n$")
        self.assertIn("It holds the secret of the cluster and is good once, until 2", made.stderr)
        self.assertIn("starling join TOKEN", made.stderr)
        told = self.asked(1, "invite", "--expires", 10)
        self.assertNotEqual(told["token"], made.stdout.strip())
        self.assertEqual(len(told["seeds"]), NODES)
        self.assertAlmostEqual(told["expires_ms"] / 1000, time.time() + 600, delta=SECONDS)
        refused = self.starling("join", "starling1-nonsense", "--data", self.dir / "c/nobody", *FREE, code=1)
        self.assertIn("this token cannot be used: ", refused.stderr)
        self.assertIn("A member gives a new one with: starling invite", refused.stderr)

    def refused_join(self, token, text, seconds=0):
        """Of a new node, whose clock is off by this much."""
        folder = self.dir / "c/refused"
        clock = [f"{name}={value}" for name, value in fault_clock.fixed(seconds).items()] if seconds else []
        done = self.run_program("env", *clock, STARLING, "join", token, "--data", folder, *FREE, "--free-space-min", 16, code=1)
        self.assertIn(text, done.stderr)
        self.assertNotIn("serving", done.stdout)
        shutil.rmtree(folder, ignore_errors=True)

    @unittest.skipUnless(fault_clock.library(), "needs faketime")
    def test_a_token_that_is_over_and_a_clock_that_is_wrong(self):
        token = self.at(1, "invite", "--expires", 60).stdout.strip()
        self.refused_join(token, "this token cannot be used: invite: expired 60 min ago by the clock here", 2 * 3600)
        self.refused_join(token, "cannot join: the joiner's clock is 10 min behind ours: set right (NTP) the one that is wrong, "
                                 "and join again", -600)
        self.assertEqual(len(self.serving()), NODES)

    def test_join_and_leave(self):
        self.at(1, "throttle", SLOW)
        joiner = self.join(5)
        self.eventually("a line tells how far it is", lambda: PROGRESS.search(joiner.read()))
        self.at(1, "throttle", "off")
        self.eventually("it ends with `serving`", lambda: joiner.read().endswith("serving\r\n"))
        # One line, drawn again and again.
        drawn = joiner.text[joiner.text.index(REDRAWN):joiner.text.rindex(REDRAWN)]
        self.assertGreaterEqual(drawn.count(REDRAWN), 1)
        self.assertNotIn("\n", drawn)
        self.serve(NODES + 1)
        refused = self.starling("join", "starling1-nonsense", "--data", self.node(5), *FREE, code=1)
        self.assertIn("this token cannot be used: ", refused.stderr)
        self.assertFalse((self.node(5) / "join-token").exists(), "the member would not start with it any more")
        self.refused_join(joiner.token, "cannot join: the invite was used already; make another with `starling invite`")

        ring = self.asked(1, "ring")["number"]
        told = self.at(5, "leave", "--dry-run").stdout
        self.assertRegex(told, r"Node +Partitions now +After +Gains +Loses\n")
        self.assertRegex(told, r"\n\d+ of 384 copies of partitions move\.\nNothing was changed\.\n$")
        told = self.asked(5, "leave", "--dry-run")
        self.assertEqual((told["dry_run"], told["change"], told["ring"]), (True, "leave", ring))
        self.assertEqual([node["next"] for node in told["nodes"] if node["short"] == self.short(5)], [0])
        self.assertEqual(self.asked(1, "ring")["number"], ring)

        self.assertTrue(self.at(5, "leave").stdout.endswith("copies of partitions move.\nsafe to power off\n"))
        self.assertEqual(self.asked(5, "status")["node"]["state"], "safe to power off")
        self.ends(joiner.process)
        again = self.at(5, "run", code=1)
        self.assertIn("`starling join TOKEN` empties the folder and joins as a new node", again.stderr)

        joiner = self.join(5)
        self.eventually("it joins as a new node", lambda: joiner.read().endswith("serving\r\n"))
        left = self.asked(5, "leave")
        self.assertEqual((left["change"], left["dry_run"], left["finished"]["change"]), ("leave", False, ""))
        self.ends(joiner.process)
        shutil.rmtree(self.node(5))
        self.serve(NODES)

    def begin(self, number=4):
        """A change that takes some seconds, midway. The node that gains."""
        self.at(1, "throttle", SLOW)
        gainer = self.short(number)
        told = self.at(1, "weight", gainer, 300, "--no-wait").stdout
        self.assertRegex(told, r"copies of partitions move\.\nIt goes on by itself; see: starling ring --diff\n$")
        self.eventually("something has moved", lambda: any(
            node.get("bytes", 0) > 0 for node in self.asked(1, "ring", "--diff")["nodes"]))
        return gainer

    def test_pause_resume_and_abort(self):
        gainer = self.begin()
        told = self.at(1, "pause").stdout
        self.assertEqual(told, "The change of the ring under way copies nothing more. `starling resume` lets it go on.\n"
                               f"Told {NODES} nodes.\n")
        diff = self.at(1, "ring", "--diff").stdout
        self.assertIn("It waits: the copying is paused: `starling resume` lets it go on\n", diff)
        for number in range(1, NODES + 1):
            self.assertTrue(self.asked(number, "status")["cluster"]["movement"]["paused"])
        self.assertIn("Paused: changes of the ring copy no data until `starling resume`\n", self.at(2, "status").stdout)
        told = self.at(3, "resume").stdout
        self.assertEqual(told, f"The change of the ring goes on; see: starling ring --diff\nTold {NODES} nodes.\n")
        told = self.asked(3, "pause")
        self.assertEqual((told["paused"], told["change"], len(told["taken"]), told["away"]), (True, True, NODES, []))

        ring = self.asked(2, "ring")["number"]
        self.assertEqual(self.at(2, "abort").stdout, 
                         f"Taken back: weight of {gainer}. Ring {ring + 1} has the owners of before.\n")
        self.refused(2, "abort", code=1, text="no change is under way")
        told = self.asked(2, "resume")
        self.assertEqual((told["paused"], told["change"], len(told["taken"])), (False, False, NODES))
        gainer = self.begin(3)   # What the other one had fetched is there still.
        self.assertEqual(self.asked(1, "abort"), {"ring": ring + 3, "change": "weight", "nodes": [gainer]})
        self.assertTrue(self.at(1, "pause").stdout.startswith(
            "No change of the ring is under way; the next ones will copy nothing. `starling resume` lets it go on.\n"))
        self.assertTrue(self.at(1, "resume").stdout.startswith(
            "No change of the ring is under way; the next one will copy as usual.\n"))

    def test_who_follows_a_change_hears_that_another_operator_took_it_back(self):
        self.at(1, "pause")
        for words in (["leave"], ["weight", self.short(2), 300]):
            following = Terminal([STARLING, *words, "--data", self.node(2)], "", self.dir)
            self.addCleanup(following.kill)
            self.eventually("it is under way", lambda: self.asked(3, "ring")["change"] == words[0])
            self.at(3, "abort")
            self.assertEqual(following.process.wait(timeout=SECONDS), 1)
            said = following.read()
            self.assertIn("this change was taken back (starling abort", said)
            self.assertNotIn("safe to power off", said)
            self.assertNotIn("done", said)
        self.serve(NODES)

    def test_ring_and_what_a_change_makes_of_it(self):
        told = self.at(1, "ring").stdout
        self.assertRegex(told, r"^Ring \d+ of cluster \w{32}: 3 copies, 2 on disk per ack, 128 partitions\n")
        self.assertEqual(len(re.findall(r"\n\w{8} +serving +default +100 +\d+ +\d+ +\d+ +[\d.]+ %", told)), NODES)
        self.assertEqual(len(self.asked(1, "ring", "--partitions")["table"]), 128)
        self.assertEqual(len(re.findall(r"\n +\d+(  ?\w{8}){3}", self.at(1, "ring", "--partitions").stdout)), 128)
        self.assertRegex(self.at(1, "ring", "--diff").stdout, r"^Ring \d+: no change is under way\n$")
        self.assertEqual(self.asked(1, "ring", "--diff")["nodes"], [])

        gainer = self.begin()
        self.at(1, "pause")
        for number in (1, 2):
            told = self.at(number, "ring", "--diff").stdout
            self.assertRegex(told, r"^Ring \d+: a change is under way: weight\n")
            self.assertIn("Each node copies at most 64 KiB/s (starling throttle)\n", told)
            self.assertRegex(told, gainer + r" +serving +\d+ +\d+ +[\d.]+ \w*B +[\d.]+ \w*B +[\d.]+ \w*B/s +\d+ s +0 +0  under way\n")
            self.assertRegex(told, r"\d+ of \d+ copies of partitions move\.\n")
        diff = self.asked(1, "ring", "--diff")
        self.assertEqual([diff["change"], diff["controls"]["rate_limit"]], ["weight", 64 << 10])
        # Another one may gain a few, for the bound's sake.
        node = next(node for node in diff["nodes"] if node["short"] == gainer)
        self.assertEqual((node["answered"], node["installed"]), (True, False))
        self.assertGreater(node["bytes_left"], 0)
        self.assertIn("A change of the ring is under way: weight\n", self.at(3, "status").stdout)

    def test_commands_that_conflict(self):
        gainer = self.begin()
        self.at(1, "pause")
        under_way = "another change is under way: wait until it completes, or abort it"
        self.refused(2, "weight", self.short(2), 200, code=5, text=under_way)
        self.refused(3, "leave", code=5, text=under_way)
        self.refused(3, "leave", "--dry-run", code=5, text=under_way)
        self.refused(2, "revoke", gainer, code=5, text=under_way)
        joiner = self.join(5)
        log = self.dir / "joiner5.log"
        self.eventually("a joiner waits, and says for what", lambda: (
            log.exists() and "another change of the ring is under way; try again soon" in log.read_text()))
        self.assertEqual(len(self.serving()), NODES)
        self.rest()
        self.eventually("then it joins", lambda: joiner.read().endswith("serving\r\n"))
        self.at(5, "leave")
        self.ends(joiner.process)
        shutil.rmtree(self.node(5))

    def test_throttle(self):
        self.assertEqual(self.at(1, "throttle", "50M").stdout,
                         f"Each node copies at most 50 MiB/s for changes of the ring.\nTold {NODES} nodes.\n")
        for number in range(1, NODES + 1):
            self.assertEqual(self.at(number, "throttle").stdout,
                             "Each node copies at most 50 MiB/s for changes of the ring.\n")
        told = self.asked(2, "throttle", "512K")
        self.assertEqual((told["rate_limit"], len(told["taken"]), told["away"]), (512 << 10, NODES, []))
        self.assertEqual(self.asked(1, "throttle")["rate_limit"], 512 << 10)
        self.refused(1, "throttle", "1K", code=1, text="a rate is 65536 to 1099511627776 bytes a second, or 0 for none; "
                                                       "to stop the copying use `starling pause`")
        self.refused(1, "throttle", "fast", code=2, text="'fast' is no rate: write bytes a second, as 20M, 512K or "
                                                         "1000000, or off")
        self.assertTrue(self.at(1, "throttle", "off").stdout.startswith("Changes of the ring copy as fast as they can.\n"))

    def test_weight(self):
        gainer, ring = self.short(2), self.asked(1, "ring")["number"]
        told = self.at(1, "weight", gainer, 200, "--dry-run").stdout
        self.assertRegex(told, r"\n" + gainer + r" +\d+ +\d+ +[1-9]\d* +0\n")
        self.assertTrue(told.endswith("copies of partitions move.\nNothing was changed.\n"))
        self.assertEqual(self.asked(1, "ring")["number"], ring)
        self.assertTrue(self.at(1, "weight", gainer, 200).stdout.endswith("copies of partitions move.\ndone\n"))
        self.eventually("others know of it", lambda: (
            [m["weight"] for m in self.asked(3, "ring")["members"] if m["short"] == gainer] == [200]))
        back = self.asked(1, "weight", gainer, 100)
        self.assertEqual((back["change"], back["finished"]["change"]), ("weight", ""))
        for wrong in (0, 1001):
            self.refused(1, "weight", gainer, wrong, code=1, text="a weight is 1 to 1000; to empty a node use "
                                                                  "`starling leave`")
        self.refused(1, "weight", gainer, 100, code=1, text=f"node {gainer} has weight 100 already")
        self.refused(1, "weight", gainer, "much", code=2, text="'much'")
        self.refused(1, "weight", gainer, code=2, text="WEIGHT is missing")
        self.refused(1, "weight", "zzzz", 200, code=1, text="no node of the ring has an id that begins with 'zzzz'; "
                                                            "`starling ring` lists them")

    def test_drain_and_undrain(self):
        self.at(1, "user", "add", "ann", "--generate")
        tail = subprocess.Popen([STARLING, "tail", "--user", "ann", "--data", str(self.node(2)), "--state",
                                 str(self.dir / "ann")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                env=environment(), cwd=self.dir)
        self.addCleanup(tail.wait)
        self.addCleanup(tail.kill)
        self.eventually("a session", lambda: self.asked(2, "status")["node"]["sessions"] == 1)
        self.assertEqual(self.at(2, "drain").stdout, "No sessions are left here. The node is not ready for new ones until "
                                                     "`starling undrain`, or its next start.\n")
        self.assertEqual(self.door(2, "/readyz"), 404)
        status = self.asked(2, "status")
        self.assertEqual((status["node"]["state"], status["node"]["sessions"]), ("drained", 0))
        self.eventually("others tell it, too", lambda: (
            re.search(rf"\n{self.short(2)} +drained ", self.at(3, "status").stdout)))
        others = lambda: sum(self.asked(n, "status")["node"]["sessions"] for n in (1, 3, 4))  # noqa: E731
        self.eventually("the session is elsewhere", lambda: others() == 1)
        self.assertEqual(self.asked(2, "drain"), {"sessions": 0})
        self.assertTrue(self.at(2, "drain", "--no-wait").stdout.startswith("The sessions are asked to go.\n"))
        self.assertEqual(self.at(2, "undrain").stdout, "The node takes sessions again.\n")
        self.assertEqual(self.door(2, "/readyz"), 200)
        self.assertEqual(self.asked(2, "undrain"), {"sessions": 0})

    def test_what_would_lose_copies_is_refused(self):
        alive = self.short(3)
        for more in ([], ["--dry-run"]):
            self.refused(1, "remove", alive, *more, code=4,
                         text=f"node {alive} is alive: let it go with `starling leave {alive}`, or stop it first")
            self.refused(1, "leave", alive, self.short(4), *more, code=1,
                         text="only 2 nodes would be left for 3 copies. At stake: " + STAKE + ". Add a node first, or accept it with --force")
        told = self.at(1, "leave", alive, self.short(4), "--force", "--dry-run").stdout
        self.assertRegex(told, r"\n\d+ of 256 copies of partitions move\.\nAt stake: " + STAKE + r"\.\nNothing was changed\.\n$")
        self.assertEqual(self.asked(1, "leave", alive, self.short(4), "--force", "--dry-run")["stake"], STAKE)
        told = self.at(1, "revoke", alive, "--dry-run").stdout
        self.assertRegex(told, r"Node +Partitions now +After +Gains +Loses\n")
        self.assertTrue(told.endswith("copies of partitions move.\nNothing was changed.\n"), told)
        self.assertEqual(self.at(1, "revoke", alive, "--force", "--dry-run").stdout,
                         "The cluster would go on under a new lineage.\nNothing was changed.\n")
        self.refused(1, "remove", code=2, text="name the nodes to remove, or their --zone; `starling ring` lists both")
        self.refused(1, "remove", "zzzz", code=1, text="no node of the ring has an id that begins with 'zzzz'")
        nowhere = self.starling("leave", "--data", self.dir / "nowhere", code=3)
        self.assertIn("start it with `starling run`, or name its folder with --data", nowhere.stderr)
        self.assertEqual(len(self.serving()), NODES)

    def test_key_rotate(self):
        before = self.asked(1, "key", "list")["keys"]
        told = self.at(1, "key", "rotate").stdout
        made = re.fullmatch(rf"Key (\w+) is in use; {NODES} nodes have it\. The others open what is sent to us until "
                            r"[-\d]+ [\d:]+\.\n", told)
        self.assertTrue(made, told)
        listed = self.at(2, "key", "list").stdout
        self.assertRegex(listed, rf"^Key +State +Retires\n{made[1]} +primary\n")
        self.assertRegex(listed, rf"\n{before[0]['id']} +old +[-\d]+ [\d:]+\n")
        rotated = self.asked(2, "key", "rotate", "--retire-after", 0)
        self.assertEqual((len(rotated["taken"]), rotated["away"], rotated["going"]), (NODES, [], []))
        self.eventually("the others open nothing any more", lambda: all(
            [key["id"] for key in self.asked(number, "key", "list")["keys"]] == [rotated["key"]]
            for number in range(1, NODES + 1)))
        self.refused(1, "key", "rotate", "--retire-after", 8761, code=2, text="--retire-after takes 0 to 8,760 hours")
        self.assertEqual(self.asked(1, "status")["cluster"]["serving"], NODES)

    def test_revoke(self):
        for number, form in ((5, []), (6, ["--json"])):
            joiner = self.join(number)
            self.eventually("it serves", lambda: joiner.read().endswith("serving\r\n"))
            name, ring = self.short(number), self.asked(1, "ring")["number"]
            told = self.at(1, "revoke", name, *form).stdout
            if form:
                told = json.loads(told)
                self.assertEqual((told["node"], told["ring"], told["change"], told["dry_run"]), (name, ring + 1, "remove", False))
            else:
                self.assertTrue(told.startswith(f"Node {name} is cut off (ring version {ring + 1}): no member hears it any "
                                                "more, and what only it holds is given up.\n"), told)
                self.assertIn("\n  starling key rotate --retire-after 0\n", told)
            self.eventually("the others have its place", lambda: (
                len(self.serving()) == NODES and not self.asked(1, "ring")["change"]))
            self.eventually("all know of it", lambda: [
                member["state"] for member in self.asked(2, "ring")["members"] if member["short"] == name] == ["removed"])
            joiner.kill()
            shutil.rmtree(self.node(number))
        self.refused(1, "revoke", "zzzz", code=1, text="no node of the ring has an id that begins with 'zzzz'")


if __name__ == "__main__":
    unittest.main(verbosity=2, argv=sys.argv)
