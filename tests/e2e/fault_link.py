"""A link between two network namespaces that delays, reorders, loses and doubles packets.

fault_link.py NAME SPACE1 IP1 SPACE2 IP2 DELAY JITTER LOSS DOUBLE: seconds, and shares of 1. Prints
"ready" when the link carries what IP1 and IP2 say to each other; SIGINT ends it, and it prints how many
packets it carried. A TUN device in each namespace has the route to the other; this process is the wire.
"""
import ctypes
import fcntl
import heapq
import os
import random
import select
import signal
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
QUEUE_MAX = 100_000  # Packets under way; more are lost, as on any wire.


def enter(space):
    with open(space) as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {space}")


def end_of_wire(name, space, mine, theirs):
    enter(f"/run/netns/{space}")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH14x", name.encode(), IFF_TUN | IFF_NO_PI))
    for command in (f"ip link set {name} up", f"sysctl -qw net.ipv4.conf.{name}.rp_filter=0",
                    f"ip route add {theirs}/32 dev {name} src {mine}"):
        subprocess.run(command.split(), check=True)
    return tun


def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # A shell ignores it for what runs in the background.
    name, space1, ip1, space2, ip2 = sys.argv[1:6]
    delay, jitter, loss, double = map(float, sys.argv[6:10])
    one = end_of_wire(name, space1, ip1, ip2)
    two = end_of_wire(name, space2, ip2, ip1)
    to = {one: two, two: one}
    print("ready", flush=True)
    wire, carried = [], 0
    try:
        while True:
            wait = max(0.0, wire[0][0] - time.monotonic()) if wire else 1.0
            for end in select.select([one, two], [], [], wait)[0]:
                while True:
                    try:
                        packet = os.read(end, 65536)
                    except BlockingIOError:
                        break
                    for _ in range(2 if random.random() < double else 1):
                        if random.random() < loss or len(wire) >= QUEUE_MAX:
                            continue
                        carried += 1
                        heapq.heappush(wire, (time.monotonic() + delay + random.random() * jitter, carried,
                                              to[end], packet))
            while wire and wire[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(wire)
                try:
                    os.write(end, packet)
                except OSError:
                    pass
    except KeyboardInterrupt:
        print(carried, flush=True)


main()
