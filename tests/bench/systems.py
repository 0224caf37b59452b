"""What the benchmark measures: Starling and its peers, each on free ports of loopback, with its data in a folder
of its own, ended with everything it started."""
import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
START_SECONDS = 90
STOP_SECONDS = 10
PACKAGES = ("mosquitto", "ejabberd", "nats-server")
LIBRARIES = "/usr/lib/x86_64-linux-gnu"


class Failure(Exception):
    """What went wrong and what to do, for people."""


def program(variable, path):
    found = pathlib.Path(os.environ.get(variable) or ROOT / path)
    if not found.is_file():
        raise Failure(f"there is no program at {found}: build it with scripts/build {path.split('/', 1)[1]}")
    return str(found.resolve())


def free_ports(count):
    """Ports that nobody has; all are held until the last is known, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def mqtt_answers(port, user=""):
    """Whether a client would be let in: CONNECT of MQTT 3.1.1 with a clean session."""
    def text(value):
        return len(value).to_bytes(2, "big") + value.encode()
    body = text("MQTT") + bytes([4, 0xC2 if user else 0x02, 0, 10]) + text("bench-probe")
    if user:
        body += text(user) + text("x")
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as one:
            one.settimeout(5)
            one.sendall(bytes([0x10, len(body)]) + body)
            answer = one.recv(4)
            one.sendall(b"\xe0\x00")
            return answer == b"\x20\x02\x00\x00"
    except OSError:
        return False


class System:
    """One of what is measured. `load(words)` is the command line that measures it."""
    name = ""
    title = ""
    promise = ""   # What an acknowledgement means.
    missing = ()   # Scenarios that cannot be run on it, with the reason.

    def __init__(self, folder, programs):
        self.folder = pathlib.Path(folder)
        self.programs = programs
        self.children = []

    def __enter__(self):
        self.folder.mkdir(parents=True)
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def spawn(self, words, env=None):
        with open(self.folder / "log", "ab") as log:
            child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                     cwd=self.folder, start_new_session=True,
                                     env={**os.environ, **(env or {})})
        self.children.append(child)

    def wait(self, ready):
        until = time.monotonic() + START_SECONDS
        while not ready():
            for child in self.children:
                if child.poll() is not None:
                    raise Failure(f"{self.name} ended with {child.returncode}; it said:\n{self.log()}")
            if time.monotonic() > until:
                raise Failure(f"{self.name} does not serve after {START_SECONDS} s; it said:\n{self.log()}")
            time.sleep(0.1)

    def log(self):
        with contextlib.suppress(OSError):
            return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-20:])
        return ""

    def end(self):
        for child in self.children:
            # The group: Erlang has helpers of its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait(STOP_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)


class Peer(System):
    """Speaks MQTT: measured by mqtt_load."""
    user = ""
    ports = ()

    def load(self, words):
        servers = [word for port in self.ports for word in ("--server", f"127.0.0.1:{port}")]
        pids = [word for child in self.children for word in ("--pid", str(child.pid))]
        user = ["--user", self.user, "--password", "x"] if self.user else []
        return [self.programs["mqtt_load"], *words, *servers, *pids, *user]


class Mosquitto(Peer):
    name = "mosquitto"
    title = "mosquitto"
    promise = "in memory"

    @staticmethod
    def version():
        words = subprocess.run(["mosquitto", "-h"], capture_output=True, text=True).stdout.split()
        return words[2] if len(words) > 2 else ""

    def start(self):
        self.ports = free_ports(1)
        (self.folder / "conf").write_text(
            f"listener {self.ports[0]} 127.0.0.1\n"
            "user root\nallow_anonymous true\npersistence false\nmax_inflight_messages 0\n"
            "max_queued_messages 0\nset_tcp_nodelay true\nsys_interval 0\nlog_type error\n")
        self.spawn(["mosquitto", "-c", "conf"])
        self.wait(lambda: mqtt_answers(self.ports[0]))


class Ejabberd(Peer):
    name = "ejabberd"
    title = "ejabberd (MQTT)"
    promise = "in memory"
    user = "u{}@localhost"

    @staticmethod
    def version():
        shown = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "ejabberd"], capture_output=True, text=True)
        return shown.stdout.split("-")[0]

    def start(self):
        self.ports = free_ports(1)
        (self.folder / "ejabberd.yml").write_text(
            "hosts: [localhost]\nloglevel: error\nauth_method: anonymous\nallow_multiple_connections: true\n"
            "anonymous_protocol: login_anon\n"
            f"listen:\n  - {{port: {self.ports[0]}, ip: \"127.0.0.1\", module: mod_mqtt, backlog: 1000, "
            "max_fsm_queue: 1000000}\n"
            "max_fsm_queue: 1000000\n"
            "modules:\n  mod_mqtt: {max_queue: unlimited, session_expiry: 1 day}\n")
        # As ejabberdctl does, but without a distributed node: no epmd, and only our own ports.
        self.spawn(["erl", "-noinput", "+K", "true", "+P", "250000", "-mnesia", "dir", f'"{self.folder}/spool"',
                    "-s", "ejabberd"],
                   {"EJABBERD_CONFIG_PATH": str(self.folder / "ejabberd.yml"),
                    "EJABBERD_LOG_PATH": str(self.folder / "ejabberd.log"),
                    "ERL_CRASH_DUMP": "/dev/null", "ERL_MAX_PORTS": "32000", "ERL_MAX_ETS_TABLES": "1400",
                    "ERL_LIBS": LIBRARIES, "HOME": str(self.folder)})
        self.wait(lambda: mqtt_answers(self.ports[0], "probe@localhost"))


class Nats(Peer):
    name = "nats1"
    title = "nats-server, 1 node (MQTT on JetStream)"
    promise = "on 1 disk, not synced"
    nodes = 1

    @staticmethod
    def version():
        words = subprocess.run(["nats-server", "--version"], capture_output=True, text=True).stdout.split()
        return words[1].lstrip("v") if len(words) > 1 else ""

    def start(self):
        ports = free_ports(3 * self.nodes)
        clients, self.ports, routes = (ports[i * self.nodes:(i + 1) * self.nodes] for i in range(3))
        for i in range(self.nodes):
            lines = [f"server_name: n{i}", f"listen: 127.0.0.1:{clients[i]}",
                     f'jetstream {{ store_dir: "{self.folder}/store{i}" }}',
                     f"mqtt {{ listen: 127.0.0.1:{self.ports[i]} }}"]
            if self.nodes > 1:
                others = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
                lines.append(f"cluster {{ name: bench, listen: 127.0.0.1:{routes[i]}, routes: [{others}] }}")
            (self.folder / f"conf{i}").write_text("\n".join(lines) + "\n")
            self.spawn(["nats-server", "-c", f"conf{i}"])
        self.wait(lambda: all(mqtt_answers(port) for port in self.ports))


class Nats3(Nats):
    name = "nats3"
    title = "nats-server, 3 nodes R3 (MQTT on JetStream)"
    promise = "on 2 of 3 disks, not synced"
    nodes = 3
    missing = (("idle", "a replicated consumer for each connection: thousands take minutes"),
               ("connect", "likewise"))


class Starling(System):
    name = "starling3"
    title = "Starling, 3 nodes, W=2"
    promise = "synced to 2 disks"
    nodes = 3

    @staticmethod
    def version():
        shown = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True)
        return shown.stdout.strip()

    def cluster(self, *words):
        done = subprocess.run([str(ROOT / "scripts/cluster"), "--dir", str(self.folder / "cluster"), *words],
                              env={**os.environ, "STARLING": self.programs["starling"]}, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise Failure(f"scripts/cluster {' '.join(words)}: {done.stderr.strip()}")

    def start(self):
        self.cluster("up", str(self.nodes))

    def load(self, words):
        return [self.programs["starling"], "bench", *words, "--cluster", str(self.folder / "cluster"), "--json"]

    def end(self):
        with contextlib.suppress(Failure):
            self.cluster("down", "--wipe")
        super().end()


class Starling1(Starling):
    name = "starling1"
    title = "Starling, 1 node"
    promise = "synced to 1 disk"
    nodes = 1


ALL = (Starling, Starling1, Mosquitto, Ejabberd, Nats, Nats3)


def installed(package):
    shown = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", package], capture_output=True, text=True)
    return shown.stdout == "installed"


def install_peers(packages):
    """From Debian, without starting their services: policy-rc.d says no for as long as this takes."""
    wanted = [package for package in packages if not installed(package)]
    if not wanted:
        return
    print(f"Installing: {' '.join(wanted)}", flush=True)
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    policy = pathlib.Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        subprocess.run([*as_root, "tee", str(policy)], input=b"#!/bin/sh\nexit 101\n", stdout=subprocess.DEVNULL, check=True)
        subprocess.run([*as_root, "chmod", "755", str(policy)], check=True)
    try:
        for step in (["update"], ["install", "-y", "--no-install-recommends", *wanted]):
            done = subprocess.run([*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", *step],
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if done.returncode != 0:
                raise Failure(f"apt-get {step[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    finally:
        if ours:
            subprocess.run([*as_root, "rm", "-f", str(policy)], check=False)
