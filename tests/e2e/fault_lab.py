"""What the fault tests share: a cluster of real nodes, a load that is recorded, and its judgement.

Every lab has a tag of its own in all names (folders, namespaces, mounts), and takes everything away
again, also after a failure: what is started registers its end in `lab.stack`.
"""
import contextlib
import json
import os
import pathlib
import random
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
STARLING = os.environ.get("STARLING") or str(ROOT / "build/node/starling")
LONG = bool(os.environ.get("STARLING_FAULTS_LONG"))
SECONDS = 90        # For what should take a moment.
PORTS = {"client": 7400, "link": 7401, "admin": 7402}
TOTALS = {"faults": 0, "messages": 0, "deliveries": 0}


class Failure(AssertionError):
    """A fault test could not do what it wanted, or found a broken promise."""


def run(*words, check=True, stdin="", seconds=SECONDS, env=None):
    done = subprocess.run([str(word) for word in words], input=stdin, text=True, capture_output=True,
                          timeout=seconds, env=env)
    if check and done.returncode != 0:
        raise Failure(f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def eventually(what, check, seconds=SECONDS):
    limit = time.monotonic() + seconds
    while not check():
        if time.monotonic() > limit:
            raise Failure(f"not within {seconds} s: {what}")
        time.sleep(0.1)


def say(text):
    print(f"  {text}", flush=True)


def clean_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("STARLING_")}


def give_up(*_):
    # A runner that gives up on us must not leave nodes, mounts and namespaces behind.
    raise KeyboardInterrupt


signal.signal(signal.SIGTERM, give_up)


class Node:
    """One process of `starling run`, at the addresses that the net gave it."""

    def __init__(self, lab, number):
        self.lab = lab
        self.number = number
        self.name = f"node{number}"
        self.data = lab.folder / self.name
        self.words = []        # Further options.
        self.env = {}          # Further environment: a faked clock, a preloaded library.
        self.process = None
        self.log = lab.folder / f"{self.name}.log"

    def spawn(self, command="run", stdin=""):
        at = self.lab.net.addresses(self.number)
        words = [STARLING, *command.split(), "--data", self.data, "--free-space-min", 16,
                 *(word for name in PORTS for word in (f"--{name}", at[name])), *at.get("more", []), *self.words]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.lab.net.inside(self.number), *map(str, words)], stdin=subprocess.PIPE, stdout=log,
                stderr=log, start_new_session=True, env=clean_environment() | self.env)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(stdin.encode())
            self.process.stdin.close()

    def start(self, wait=True):
        self.spawn()
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds=SECONDS):
        began = time.monotonic()
        eventually(f"{self.name} serves\n{self.last_words()}", lambda: self.ready() or self.ended(), seconds)
        if self.ended():
            raise Failure(f"{self.name} ended with {self.process.returncode}:\n{self.last_words()}")
        return time.monotonic() - began

    def ended(self):
        return self.process is None or self.process.poll() is not None

    def ready(self):
        return self.get("/readyz") is not None

    def get(self, path):
        # From outside of its namespace; by what it wrote when it bound them.
        try:
            admin = json.loads((self.data / "addresses.json").read_text())["admin"]
            with urllib.request.urlopen(f"http://{admin}{path}", timeout=2) as answer:
                return answer.read().decode()
        except (OSError, ValueError, urllib.error.URLError):
            return None

    def metric(self, name):
        text = self.get("/metrics") or ""
        return sum(float(line.split()[-1]) for line in text.splitlines()
                   if line.startswith((name + " ", name + "{")))

    def state(self):
        answer = run(STARLING, "status", "--json", "--data", self.data, check=False, seconds=20)
        return json.loads(answer.stdout)["node"]["state"] if answer.returncode == 0 else "gone"

    def signal(self, which):
        if not self.ended():
            os.kill(self.process.pid, which)

    def kill(self):
        self.signal(signal.SIGKILL)
        if self.process:
            self.process.wait(SECONDS)

    def stop(self):
        self.signal(signal.SIGTERM)
        self.process.wait(SECONDS)

    def last_words(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:]) if self.log.exists() else ""


class Lab:
    """Nodes on a net (fault_net.py, fault_proxy.py), their load, and a place for everything."""

    def __init__(self, net, disks=None, nodes=3, env=None, later=0):
        """The last `later` of the nodes are not started: join() is for them."""
        self.stack = contextlib.ExitStack()
        self.later = later
        self.tag = secrets.token_hex(2)
        # A short path: socket paths end at 107 bytes.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"sf{self.tag}-", dir="/tmp"))
        self.stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.random = random.Random(self.tag)
        self.loads = 0
        self.lines = 0
        self.histories = []
        try:
            self.net = net(self, nodes)
            self.nodes = [Node(self, number) for number in range(1, nodes + 1)]
            self.disks = [disks(self, node) for node in self.nodes] if disks else []
            for node, disk in zip(self.nodes, self.disks or [None] * nodes):
                node.env = dict(env or {}) | getattr(disk, "env", {})
                self.stack.callback(node.kill)
        except BaseException:
            self.stack.close()
            raise

    def __enter__(self):
        try:
            self.nodes[0].start()
            for node in self.nodes[1:len(self.nodes) - self.later]:
                self.join(node)
                node.wait_ready()
            return self
        except BaseException:
            self.stack.close()
            raise

    def __exit__(self, *_):
        self.stack.close()

    def join(self, node, command="join -"):
        token = run(STARLING, "invite", "--data", self.nodes[0].data).stdout
        node.spawn(command, stdin=token)

    def serving(self):
        return all(node.ready() for node in self.nodes)

    def fault(self, text):
        TOTALS["faults"] += 1
        say(text)

    def load(self, lines=2000, seconds=12, patience=90, users=30, rooms=4):
        """A conversation, played at an even pace; every user reads all of it again at the end, on a new
        device. Faults are injected while it runs."""
        self.loads += 1
        self.lines = self.lines or lines   # The same conversation, so that groups keep their members.
        history = self.folder / f"load{self.loads}.history"
        self.histories.append(history)
        words = ["replay", "--generate", "--limit", self.lines, "--users", users, "--rooms", rooms, "--devices", 1,
                 "--verify-fresh", users, "--patience", patience, "--json", "--cluster", self.folder,
                 "--record", history, *(["--seconds", seconds] if seconds else ["--speed", 0])]
        with open(history.with_suffix(".log"), "wb") as log:
            process = subprocess.Popen([STARLING, *map(str, words)], stdout=subprocess.PIPE, text=True,
                                       stderr=log, env=clean_environment())
        self.stack.callback(process.kill)
        return Load(self, process)

    def judge(self, expect="pass"):
        """starling check on everything recorded. The report."""
        answer = run(STARLING, "check", *self.histories, "--closed", "--json", check=False, seconds=300)
        if not answer.stdout:
            raise Failure(answer.stderr)
        report = json.loads(answer.stdout)
        if report["verdict"] != expect:
            text = run(STARLING, "check", *self.histories, "--closed", check=False, seconds=300).stdout
            raise Failure(f"the verdict is {report['verdict']}, not {expect}\n{text}")
        TOTALS["messages"] += report["acked"]
        TOTALS["deliveries"] += report["delivered"]
        say(f"checked: {report['acked']} acknowledged, {report['delivered']} of {report['expected']} deliveries")
        return report

    def judge_can_fail(self):
        """The same history without one line of what a device showed is a loss."""
        history = self.histories[-1]
        lines = history.read_text().splitlines(keepends=True)
        acked = set()
        for line in lines:
            if '"e":"ack"' in line:
                event = json.loads(line)
                acked.add((event["to"], event["n"]))
        for at in range(len(lines) - 1, 0, -1):
            if '"e":"shown"' not in lines[at]:
                continue
            event = json.loads(lines[at])
            if (event["to"], event["n"]) in acked:
                break
        planted = history.with_suffix(".planted")
        planted.write_text("".join(lines[:at] + lines[at + 1:]))
        answer = run(STARLING, "check", planted, "--json", check=False, seconds=300)
        faults = json.loads(answer.stdout)["faults"]
        if answer.returncode != 1 or faults["lost"] + faults["partly_shown"] != 1:
            raise Failure(f"a planted loss was not found: {answer.stdout[:2000]}")


class Load:
    def __init__(self, lab, process):
        self.lab = lab
        self.process = process

    def running(self):
        return self.process.poll() is None

    def wait_sends(self, count=50):
        """Until the nodes together took this many more sends."""
        sends = lambda: sum(node.metric("starling_sends_total") for node in self.lab.nodes)  # noqa: E731
        before = sends()
        eventually("the load sends", lambda: sends() >= before + count or not self.running())
        if not self.running():
            said = self.lab.histories[-1].with_suffix(".log").read_text()
            raise Failure(f"the load ended before the fault was injected: {self.process.communicate()[0][-2000:]}{said}")

    def stop(self):
        """What is said so far is all, and is proven."""
        self.process.send_signal(signal.SIGINT)
        return self.finish()

    def finish(self, code=0, seconds=300):
        output, _ = self.process.communicate(timeout=seconds)
        if self.process.returncode != code:
            said = self.lab.histories[-1].with_suffix(".log").read_text()
            raise Failure(f"replay ended with {self.process.returncode}, not {code}: {output[-3000:]}{said}")
        report = json.loads(output)
        if not report["acked"]:
            raise Failure("nothing was acknowledged")
        return report
