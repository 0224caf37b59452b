"""Every node is restarted, then every node is killed, with all clients connected through HAProxy.

No message is lost (`starling check` is the judge), nobody waits 2 s for an acknowledgement, and no device that
moves takes 2 s until it has caught up. The balancer's settings are those of docs/operations.md.
"""
import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

from cluster_test import ROOT, SECONDS, STARLING, Case, environment

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
NODES = 3
DEVICES = 120
SERVICE_US = 2_000_000
LOAD_SECONDS = 600     # At most: it is told to stop when the restarts are done.
LINES_PER_SECOND = 40  # Nine in ten go to a group: about 3,500 deliveries a second.


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Balanced(Case):
    def setUp(self):
        super().setUp()
        self.port = free_port()
        self.balancer = f"127.0.0.1:{self.port}"
        self.cluster("up", str(NODES), "--", "--client-advertise", self.balancer)
        first = self.node(1) / "starling.conf"
        first.write_text(first.read_text() + f"client-advertise = {self.balancer}\n")
        self.start_haproxy()

    def start_haproxy(self):
        """The settings of docs/operations.md, for these nodes."""
        text = (ROOT / "docs/operations.md").read_text()
        settings = re.search(r"```haproxy\n(.*?)```", text, re.S)[1].split("  server ")[0]
        settings = settings.replace("bind :7400", f"bind {self.balancer}")
        for line in self.cluster("addresses").stdout.splitlines():
            name, client, _, admin = line.split()[:4]
            host, port = admin.rsplit(":", 1)
            settings += f"  server {name} {client} addr {host} port {port}\n"
        config = self.dir / "haproxy.cfg"
        config.write_text(settings)
        log = open(self.dir / "haproxy.log", "wb")
        self.addCleanup(log.close)
        process = subprocess.Popen([HAPROXY, "-db", "-f", str(config)], stdout=log, stderr=log)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)

        def answers():
            with socket.socket() as door:
                return door.connect_ex(("127.0.0.1", self.port)) == 0

        self.eventually("HAProxy listens", answers)

    def status_of(self, number):
        return json.loads(self.starling("status", "--json", "--data", self.node(number)).stdout)

    def sessions(self):
        return [self.status_of(number)["node"]["sessions"] for number in range(1, NODES + 1)]

    def all_are_in(self):
        return sum(self.sessions()) >= DEVICES

    def all_serve(self):
        try:
            return self.status()["cluster"]["serving"] == NODES
        except (AssertionError, KeyError):
            return False

    def restart(self, number):
        self.cluster("stop", str(number))
        self.cluster("start", str(number))
        self.eventually(f"node {number} serves again", self.all_serve)

    @contextlib.contextmanager
    def load(self):
        """DEVICES behind the balancer send and follow meanwhile; then what they wrote down is judged."""
        history = self.dir / "history"
        load = subprocess.Popen([STARLING, "replay", "--generate", "--limit", str(LOAD_SECONDS * LINES_PER_SECOND),
                                 "--seconds", str(LOAD_SECONDS), "--users", str(DEVICES // 2),
                                 "--cluster", str(self.dir / "c"), "--client", self.balancer, "--record", str(history), "--json"],
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(),
                                cwd=self.dir)
        self.addCleanup(load.wait)
        self.addCleanup(load.kill)
        self.eventually("all are in", self.all_are_in)
        self.eventually("the load runs", lambda: history.stat().st_size > 20_000)
        began = time.monotonic()
        yield
        print(f"done in {time.monotonic() - began:.0f} s")
        self.assertIsNone(load.poll(), "the load ended before the faults did")
        load.send_signal(signal.SIGINT)
        output, _ = load.communicate(timeout=2 * SECONDS)
        self.assertEqual(load.returncode, 0, output)
        report = json.loads(output)
        print("away (us)", report["outage_us"], "acknowledged after", report["ack_us"], "delivered after", report["delivery_us"])
        self.assertEqual(report["proof"], "pass")
        self.assertGreaterEqual(report["outage_us"]["count"], DEVICES, "every device was moved")
        self.assertLess(report["ack_us"]["max"], SERVICE_US, report["ack_us"])
        # Until a device has caught up at its next node; it sends before that.
        self.assertLess(report["outage_us"]["max"], SERVICE_US, report["outage_us"])
        # Who only listens notices nothing: it hears late.
        self.assertLess(report["delivery_us"]["max"], SERVICE_US, report["delivery_us"])
        self.starling("check", history, "--closed")

    def test_all_are_restarted(self):
        with self.load():
            for number in range(1, NODES + 1):
                self.starling("drain", "--data", self.node(number))
                self.assertEqual(self.sessions()[number - 1], 0)
                self.restart(number)
            for number in range(1, NODES + 1):
                self.restart(number)
        # A node that stops says goodbye to its sessions itself.
        self.assertNotRegex((self.dir / "haproxy.log").read_text(), r"wrong status.* [1-9]\d* sessions active")

    def test_all_are_killed(self):
        with self.load():
            for number in [*range(1, NODES + 1)] * 2:
                self.eventually("all are in", self.all_are_in)
                self.assertGreater(self.sessions()[number - 1], 0)
                self.cluster("kill", str(number))
                self.eventually(f"node {number} is held for dead",
                                lambda: self.status()["cluster"]["serving"] < NODES)
                self.cluster("start", str(number))
                self.eventually(f"node {number} serves again", self.all_serve)


if __name__ == "__main__":
    if not HAPROXY:
        print("SKIPPED: haproxy is not installed (scripts/setup does it)")
        sys.exit(77)
    unittest.main(verbosity=2)
