"""A network namespace for each node, joined by a bridge: partitions, one-way cuts, loss, doubles by
nftables, delay and reordering by a TUN link (fault_link.py). Needs root.
"""
import os
import pathlib
import signal
import subprocess
import sys

from fault_lab import PORTS, Failure, eventually, run


def permitted():
    """Whether namespaces and nft work here; why not."""
    if os.geteuid() != 0:
        return "not root"
    try:
        probe = subprocess.run(["unshare", "--net", "nft", "list", "tables"], capture_output=True, text=True)
    except FileNotFoundError as missing:
        return str(missing)
    return None if probe.returncode == 0 else f"nft: {probe.stderr.strip()}"


class Namespaces:
    def __init__(self, lab, count):
        self.tag = lab.tag
        self.bridge = f"sb{self.tag}"
        self.net = self.free_net()
        self.spaces = {}
        self.links = []
        lab.stack.callback(self.close)
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "addr", "add", f"{self.net}.1/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")
        for number in range(1, count + 1):
            self.add(number)

    @staticmethod
    def free_net():
        """198.18.0.0/15 is set aside for tests of networks; two runs at once take different parts."""
        taken = run("ip", "-4", "addr").stdout
        for third in range(os.getpid() % 256, os.getpid() % 256 + 256):
            net = f"198.18.{third % 256}"
            if f" {net}." not in taken:
                return net
        raise Failure("no free part of 198.18.0.0/16")

    def add(self, number):
        space, outside = f"sn{self.tag}n{number}", f"sv{self.tag}n{number}"
        self.spaces[number] = space
        run("ip", "netns", "add", space)
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", space)
        run("ip", "link", "set", outside, "master", self.bridge, "up")
        run("ip", "-n", space, "addr", "add", f"{self.ip(number)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            run("ip", "-n", space, "link", "set", device, "up")
        self.nft(number, """
            table inet faults {
              chain cut { type filter hook input priority 0; }
              chain weather { type filter hook input priority 1; }
            }""")

    def close(self):
        for link in self.links:
            link.kill()
            link.wait()
        for space in self.spaces.values():
            run("ip", "netns", "del", space, check=False)
        run("ip", "link", "del", self.bridge, check=False)

    def ip(self, number):
        return f"{self.net}.{10 + number}"

    def addresses(self, number):
        return {name: f"{self.ip(number)}:{port}" for name, port in PORTS.items()}

    def inside(self, number):
        # Not `ip netns exec`: that would also take its own copy of all mounts.
        return ["nsenter", f"--net=/run/netns/{self.spaces[number]}", "--"]

    def nft(self, number, rules):
        run(*self.inside(number), "nft", "-f", "-", stdin=rules)

    def cut(self, sender, receiver):
        """Nothing that `sender` says reaches `receiver`."""
        self.nft(receiver, f"add rule inet faults cut ip saddr {self.ip(sender)} counter drop")

    def isolate(self, number):
        for other in self.spaces:
            if other != number:
                self.cut(number, other)
                self.cut(other, number)

    def heal(self):
        """All cuts end. How many packets they took."""
        taken = 0
        for number in self.spaces:
            taken += self.counted(number, "cut")
            self.nft(number, "flush chain inet faults cut")
        return taken

    def loss(self, percent):
        """Of what nodes say to each other. 0 ends it; how many packets it took."""
        taken = 0
        for number in self.spaces:
            taken += self.counted(number, "weather")
            self.nft(number, "flush chain inet faults weather")
            for other in self.spaces if percent else ():
                if other != number:
                    self.nft(number, f"add rule inet faults weather ip saddr {self.ip(other)} "
                                     f"numgen random mod 100 < {percent} counter drop")
        return taken

    def duplicate(self, percent):
        """Datagrams and segments leave twice. 0 ends it; how many were doubled."""
        doubled = 0
        for number in self.spaces:
            if percent:
                self.nft(number, f"""
                    table netdev doubles {{
                      chain out {{
                        type filter hook egress device eth0 priority 0;
                        numgen random mod 100 < {percent} counter dup to eth0
                      }}
                    }}""")
            else:
                doubled += self.counted(number, "out", "netdev doubles")
                self.nft(number, "delete table netdev doubles")
        return doubled

    def counted(self, number, chain, table="inet faults"):
        words = run(*self.inside(number), "nft", "list", "chain", *table.split(), chain).stdout.split()
        return sum(int(words[at + 1]) for at, word in enumerate(words) if word == "packets")

    def link(self, one, other, delay, jitter, loss=0.0, double=0.0):
        """What these two say to each other takes a detour with delay, jitter (which reorders), loss and
        doubles. The process; kill it and call unlink."""
        name = f"st{self.tag}{one}x{other}"
        link = subprocess.Popen(
            [sys.executable, str(pathlib.Path(__file__).parent / "fault_link.py"), name,
             self.spaces[one], self.ip(one), self.spaces[other], self.ip(other), str(delay), str(jitter),
             str(loss), str(double)], stdout=subprocess.PIPE, text=True)
        self.links.append(link)
        if link.stdout.readline().strip() != "ready":
            raise Failure("the TUN link does not start")
        return link

    def unlink(self, link):
        """Ends a link: its devices and routes go with it. How many packets it carried."""
        link.send_signal(signal.SIGINT)
        words = link.communicate(timeout=10)[0].split()
        self.links.remove(link)
        return int(words[0])
