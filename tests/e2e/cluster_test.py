"""A real cluster on loopback, through scripts/cluster and the starling program, as a user would.

STARLING names the program. Every test has a folder and ports of its own and leaves no process behind.
"""
import contextlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
STARLING = os.environ.get("STARLING") or str(ROOT / "build/node/starling")
FREE = ["--client", "127.0.0.1:0", "--link", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
SECONDS = 60  # For anything that should take a moment.


def environment():
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STARLING_")}
    return clean | {"STARLING": STARLING, "NO_COLOR": "1"}


class Case(unittest.TestCase):
    def setUp(self):
        # A short path: socket paths end at 107 bytes.
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="starling-e2e-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.addCleanup(self.kill_what_is_left)

    def kill_what_is_left(self):
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self):
        """Running programs that have this test's folder on their command line."""
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = entry.read_bytes().split(b"\0")
                if any(str(self.dir).encode() in word for word in words):
                    found.append(int(entry.parent.name))
        return found

    def run_program(self, *words, code=0, stdin="", seconds=SECONDS):
        result = subprocess.run([str(word) for word in words], input=stdin, capture_output=True, text=True,
                                timeout=seconds, cwd=self.dir, env=environment())
        self.assertEqual(result.returncode, code, f"{words}\n{result.stdout}\n{result.stderr}")
        return result

    def starling(self, *words, code=0, stdin="", seconds=SECONDS):
        return self.run_program(STARLING, *words, code=code, stdin=stdin, seconds=seconds)

    def cluster(self, *words, code=0):
        return self.run_program(ROOT / "scripts/cluster", "--dir", self.dir / "c", *words, code=code,
                                seconds=10 * SECONDS)

    def node(self, number):
        return self.dir / "c" / f"node{number}"

    def status(self):
        return json.loads(self.cluster("status", "--json").stdout)

    def eventually(self, what, check):
        limit = time.monotonic() + SECONDS
        while not check():
            self.assertLess(time.monotonic(), limit, f"not in {SECONDS} s: {what}")
            time.sleep(0.1)

    def client_addresses(self):
        lines = self.cluster("addresses").stdout.splitlines()
        return {line.split()[0]: line.split()[1] for line in lines}

    @contextlib.contextmanager
    def running(self, *words):
        """A node of its own, from its first word until it is stopped by Ctrl-C."""
        node = subprocess.Popen([STARLING, "run", *map(str, words)], stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, text=True, env=environment(), cwd=self.dir)
        try:
            said = []
            for line in node.stdout:
                if line == "serving\n":
                    break
                said.append(line)
            else:
                self.fail("the node ended before it served: " + "".join(said))
            yield "".join(said)
            node.send_signal(signal.SIGINT)
            self.assertEqual(node.wait(SECONDS), 0)
        finally:
            node.kill()
            node.wait()
            node.stdout.close()


class Replay(Case):
    """The proof of `starling replay`: on every device every message once, in order, byte for byte."""

    SHARED = pathlib.Path(os.environ.get("STARLING_SHARED") or ROOT.parent / "shared")

    def script(self):
        real = self.SHARED / "data/ubuntu-irc.jsonl"
        if real.is_file():
            return [real]
        print("no published chat log here: a generated conversation is replayed instead")
        return ["--generate"]

    def replay(self, *words):
        return subprocess.Popen([STARLING, "replay", *map(str, words), "--cluster", str(self.dir / "c"), "--json"],
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                env=environment(), cwd=self.dir)

    def proven(self, replay):
        output, _ = replay.communicate(timeout=3 * SECONDS)
        self.assertEqual(replay.returncode, 0, output)
        report = json.loads(output)
        self.assertEqual(report["proof"], "pass")
        self.assertGreater(report["acked"], 0)
        return report

    def test_the_real_conversation_arrives(self):
        self.cluster("up", "3")
        self.proven(self.replay(*self.script(), "--limit", 1500, "--speed", 0))

    def test_a_node_killed_in_the_middle_loses_nothing(self):
        self.cluster("up", "3")
        replay = self.replay(*self.script(), "--limit", 1500)  # As life has it, in 20 s.
        counted = 'starling_sends_total '

        def sends(number):
            admin = json.loads((self.node(number) / "addresses.json").read_text())["admin"]
            host, port = admin.rsplit(":", 1)
            with socket.create_connection((host, int(port)), SECONDS) as door:
                door.sendall(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
                text = b"".join(iter(lambda: door.recv(65536), b"")).decode()
            return sum(int(float(line.split()[1])) for line in text.splitlines() if line.startswith(counted))

        self.eventually("sends through node 2", lambda: sends(2) > 30)
        self.cluster("kill", "2")
        before = sends(1)
        self.eventually("sends go on through the others", lambda: sends(1) > before + 30)
        self.cluster("start", "2")
        report = self.proven(replay)
        self.assertGreater(report["reconnects"], 0, "nobody was connected to the killed node")


class Cluster(Case):
    def send(self, user, to, text, node=1, code=0):
        return self.starling("send", to, text, "--user", user, "--data", self.node(node), "--state",
                             self.dir / f"{user}-send", "--json", code=code)

    def tail(self, user, count, client, *words, state="tail"):
        """The next `count` messages that a device of `user` gets, as dictionaries."""
        tail = subprocess.Popen(
            [STARLING, "tail", "--user", user, "--json", "--state", str(self.dir / f"{user}-{state}"),
             "--data", str(self.node(1)), "--client", client, *words],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(), cwd=self.dir)
        watchdog = subprocess.Popen(["sh", "-c", f"sleep {SECONDS}; kill {tail.pid}"], start_new_session=True)
        try:
            messages = [json.loads(line) for line in itertools.islice(tail.stdout, count)]
            tail.send_signal(signal.SIGINT)  # So that it remembers what it has seen.
            tail.wait(SECONDS)
            return messages
        finally:
            os.killpg(watchdog.pid, signal.SIGKILL)
            watchdog.wait()
            tail.kill()
            tail.wait()
            tail.stdout.close()

    def add_users(self, *names):
        added = self.starling("user", "add", *names, "--generate", "--json", "--data", self.node(1))
        return {user["name"]: user["password"] for user in json.loads(added.stdout)["results"]}

    def test_a_refused_login_sends_nothing_now_or_later_and_leaves_no_file(self):
        self.cluster("up", "1")
        password = self.add_users("alice", "bob")["@alice"]
        state = self.dir / "state"
        at = ["--client", self.client_addresses()["node1"], "--user", "alice", "--state", state, "--data",
              self.dir / "none"]
        for words in (["send", "@bob", "never"], ["chat", "@bob"]):
            refused = self.starling(*words, *at, "--password", "wrong", stdin="never\n", code=4)
            self.assertIn("password", refused.stderr)
            self.assertEqual(list(self.dir.glob("state*")), [], "a user that never logged in leaves no file")
        self.starling("send", "@bob", "first", *at, "--password", password)
        self.assertTrue(state.exists())
        self.assertEqual([m["text"] for m in self.tail("@bob", 1, at[1])], ["first"])
        history = self.starling("chat", "@bob", *at, stdin="/history\n").stdout
        self.assertNotIn("never", history)
        self.cluster("down", "--wipe")

    def test_what_is_wrong_with_a_send_is_said_before_anything_is_sent(self):
        unreachable = ["--client", "127.0.0.1:1", "--data", self.dir / "none", "--password", "x", "--state",
                       self.dir / "s"]
        as_alice = ["--user", "alice", *unreachable]
        self.assertIn("--user", self.starling("send", "@bob", "x", *unreachable, code=2).stderr)
        self.assertIn("nothing to send", self.starling("send", "@bob", *as_alice, code=2).stderr)
        self.assertIn("nothing to send", self.starling("send", "@bob", "", *as_alice, code=2).stderr)
        self.starling("send", "bob", "x", *as_alice, code=2)
        gone = self.starling("send", "@bob", "x", *as_alice, "--timeout", 1, code=3)
        self.assertIn("nothing was sent", gone.stderr)
        self.assertIn("127.0.0.1:1", gone.stderr)
        self.assertEqual(list(self.dir.glob("s*")), [])

    def test_a_message_without_an_answer_goes_out_with_the_next_send_which_says_so(self):
        self.cluster("up", "3")
        self.add_users("alice", "bob")
        self.cluster("stop", "3")
        self.cluster("stop", "2")
        kept = self.starling("send", "@bob", "one", "--user", "alice", "--data", self.node(1), "--state",
                             self.dir / "s", "--timeout", 2, code=5)
        self.assertIn("is kept", kept.stderr)
        self.cluster("start", "2")
        sent = self.starling("send", "@bob", "two", "--user", "alice", "--data", self.node(1), "--state",
                             self.dir / "s")
        self.assertIn("1 message kept from before", sent.stderr)
        texts = [m["text"] for m in self.tail("@bob", 2, self.client_addresses()["node1"])]
        self.assertEqual(texts, ["one", "two"])
        self.cluster("down", "--wipe")

    def test_a_piped_chat_talks_to_whom_it_is_told_and_ends_with_its_failures(self):
        self.cluster("up", "1")
        self.add_users("alice", "bob", "mallory")
        self.send("@mallory", "@alice", "psst")
        chat = ["chat", "--user", "alice", "--data", self.node(1), "--state", self.dir / "chat"]
        said = self.starling(*chat, stdin="secret\n", code=1)
        self.assertIn("to whom?", said.stdout)
        said = self.starling(*chat, stdin="/to @bob\nhello\n")
        self.assertNotIn("talking to @mallory", said.stdout)
        self.assertIn("hello", said.stdout)
        self.starling(*chat, "@nobody", stdin="hello\n", code=1)
        self.starling(*chat, stdin="/create #ours\nin the group\n/who\n")
        self.starling(*chat, stdin="/create #ours\n", code=1)
        texts = [m["text"] for m in self.tail("@bob", 1, self.client_addresses()["node1"])]
        self.assertEqual(texts, ["hello"])
        self.cluster("down", "--wipe")

    def test_tail_with_history_prints_each_message_once_and_refuses_whom_it_cannot_follow(self):
        self.cluster("up", "1")
        self.add_users("alice", "bob")
        for text in ("one", "two", "three"):
            self.send("@alice", "@bob", text)
        address = self.client_addresses()["node1"]
        # All of it unseen, then all of it seen.
        for unseen in ("new", "new", "known"):
            lines = self.tail("@bob", 3, address, "--from", "@alice", "--history", "3", state=unseen)
            self.assertEqual([m["text"] for m in lines], ["one", "two", "three"])
        self.send("@alice", "@bob", "four")
        lines = self.tail("@bob", 2, address, "--from", "@alice", "--history", "2", state="known")
        self.assertEqual([m["text"] for m in lines], ["three", "four"])

        self.starling("group", "create", "others", "alice", "--data", self.node(1))
        for whom in ("#nope", "#others", "@nope"):
            refused = self.starling("tail", "--user", "bob", "--from", whom, "--data", self.node(1), "--state",
                                    self.dir / "t", code=4 if whom == "#others" else 1)
            self.assertIn(whom, refused.stderr)
        self.cluster("down", "--wipe")

    def test_wrong_words_are_answered_in_the_users_terms(self):
        self.cluster("up", "1")
        self.assertIn("minutes", self.starling("invite", "--expires", 0, "--data", self.node(1), code=2).stderr)
        self.add_users("fay")
        taken = self.starling("user", "add", "fay", "--generate", "--data", self.node(1), code=1)
        self.assertEqual(taken.stderr.count("@fay"), 1)
        self.assertIn("since its start", self.starling("status", "--data", self.node(1)).stdout)
        self.cluster("down", "--wipe")

    def test_three_nodes_serve_users_through_a_crash(self):
        self.cluster("up", "3")
        status = self.status()
        self.assertEqual(status["cluster"]["serving"], 3)
        self.assertEqual(len(status["members"]), 3)

        added = self.starling("user", "add", "alice", "bob", "--generate", "--json", "--data", self.node(1))
        self.assertEqual([user["name"] for user in json.loads(added.stdout)["results"]], ["@alice", "@bob"])
        self.starling("user", "add", "alice", "--generate", "--data", self.node(2), code=1)

        sent = json.loads(self.send("@alice", "@bob", "one").stdout)
        self.assertGreaterEqual(sent["copies"], 2)
        addresses = self.client_addresses()
        self.assertEqual([m["text"] for m in self.tail("@bob", 1, addresses["node3"])], ["one"])

        before = self.client_addresses()["node3"]
        self.cluster("kill", "3")
        self.send("@alice", "@bob", "two")
        self.send("@alice", "@bob", "three", node=2)
        self.assertEqual([m["text"] for m in self.tail("@bob", 2, addresses["node2"])], ["two", "three"])

        self.cluster("start", "3")
        self.assertEqual(self.client_addresses()["node3"], before, "a restart keeps its ports")
        self.eventually("three nodes alive again", lambda: all(
            member["state"] == "alive" for member in self.status()["members"]))
        self.send("@alice", "@bob", "four")
        self.assertEqual([m["text"] for m in self.tail("@bob", 1, addresses["node3"])], ["four"])

        self.cluster("stop", "2")
        self.assertFalse((self.node(2) / "addresses.json").exists())
        self.cluster("start", "2")
        self.cluster("down")
        self.assertEqual(self.processes(), [])
        self.assertTrue(self.node(1).is_dir(), "the data stays")

        self.cluster("up", "3")
        users = json.loads(self.starling("user", "list", "--json", "--data", self.node(3)).stdout)["users"]
        self.assertEqual([user["name"] for user in users], ["@alice", "@bob"])
        self.cluster("down", "--wipe")
        self.assertEqual(self.processes(), [])
        self.assertFalse((self.dir / "c").exists())

    def test_a_node_joins_a_running_cluster_and_env_finds_it(self):
        self.cluster("up", "1")
        self.cluster("add")
        self.assertEqual(self.status()["cluster"]["serving"], 2)
        lines = dict(line.removeprefix("export ").split("=", 1)
                     for line in self.cluster("env").stdout.splitlines())
        self.assertEqual(len(lines["STARLING_CLIENT"].split(",")), 2)
        found = self.run_program("sh", "-c", 'eval "$(' + str(ROOT / "scripts/cluster") + " --dir " +
                                 str(self.dir / "c") + ' env)"; starling status --json')
        self.assertEqual(json.loads(found.stdout)["cluster"]["serving"], 2)
        self.cluster("down", "--wipe")

    def test_a_token_of_another_cluster_is_refused_by_a_used_folder(self):
        self.cluster("up", "1")
        token = self.starling("invite", "--data", self.node(1)).stdout
        with self.running("--data", self.dir / "other", *FREE):
            pass
        refused = self.starling("join", "-", "--data", self.dir / "other", stdin=token, code=1)
        self.assertIn("holds a node of another cluster; join with an empty --data folder", refused.stderr)
        with self.running("--data", self.dir / "other", *FREE):  # Which it still is.
            pass
        self.cluster("down", "--wipe")

    def test_a_wrong_token_says_so(self):
        refused = self.starling("join", "starling1-AAAA", "--data", self.dir / "n", code=1)
        self.assertIn("starling invite", refused.stderr)
        refused = self.starling("join", "-", "--data", self.dir / "n", stdin="", code=1)
        self.assertIn("starling invite", refused.stderr)


class Single(Case):
    """One node and the things that go wrong with one."""

    def test_an_empty_folder_becomes_a_cluster_and_says_what_next(self):
        data = self.dir / "one"
        with self.running("--data", data, *FREE) as said:
            self.assertIn("A new cluster of one", said)
            self.assertIn("starling user add", said)
            self.assertIn("starling join TOKEN", said)
            addresses = json.loads((data / "addresses.json").read_text())
            self.assertEqual(set(addresses), {"client", "link", "admin", "pid"})
        self.assertFalse((data / "addresses.json").exists())
        with self.running("--data", data, *FREE) as said:
            self.assertNotIn("new cluster", said)

    def test_a_port_in_use_is_named(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            refused = self.starling("run", "--data", self.dir / "one", *FREE, "--client", address, code=2)
            self.assertIn("more than once", refused.stderr)
            refused = self.starling("run", "--data", self.dir / "one", "--client", address, "--link",
                                    "127.0.0.1:0", "--admin", "127.0.0.1:0", code=1)
            self.assertIn(address, refused.stderr)

    def test_the_cluster_script_shows_why_a_node_does_not_start(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            self.cluster("up", "1")
            self.cluster("stop", "1")
            conf = self.node(1) / "starling.conf"
            lines = [line for line in conf.read_text().splitlines() if not line.startswith("client")]
            conf.write_text("\n".join([*lines, f"client = {address}", ""]))
            refused = self.cluster("start", "1", code=1)
            self.assertIn(f"{address} is taken", refused.stderr)
            self.assertEqual(self.processes(), [])

    def test_two_nodes_do_not_share_a_folder(self):
        with self.running("--data", self.dir / "one", *FREE):
            refused = self.starling("run", "--data", self.dir / "one", *FREE, code=1)
            self.assertIn("cannot start", refused.stderr)
            # The first one is still there, with its addresses.
            self.starling("status", "--data", self.dir / "one")

    def test_nobody_answers_is_exit_code_3(self):
        refused = self.starling("status", "--data", self.dir / "none", code=3)
        self.assertIn("starling run", refused.stderr)

    def test_admin_port_shows_metrics_and_no_more(self):
        with self.running("--data", self.dir / "one", *FREE):
            admin = json.loads((self.dir / "one" / "addresses.json").read_text())["admin"]
            metrics = self.run_program("curl", "-sf", f"http://{admin}/metrics").stdout
            self.assertIn("# TYPE starling_", metrics)
            self.run_program("curl", "-sf", f"http://{admin}/readyz")
            code = self.run_program("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST",
                                    f"http://{admin}/v1/status").stdout
            self.assertEqual(code, "404")
            mode = (self.dir / "one" / "admin.sock").stat().st_mode & 0o777
            self.assertEqual(mode, 0o600)


if __name__ == "__main__":
    unittest.main(verbosity=2)
