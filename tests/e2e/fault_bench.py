"""What faults cost: the figures of docs/benchmarks.md. Root; minutes.

    python3 tests/e2e/fault_bench.py partition [--seconds 60] [--rate 2000]
    python3 tests/e2e/fault_bench.py return    [--seconds 30] [--rate 1000]
    python3 tests/e2e/fault_bench.py recovery  [--gigabytes 10]
    python3 tests/e2e/fault_bench.py join      [--gigabytes 10] [--payload 4000] [--rate 500] [--limit RATE] [--nodes 2] [--apart]
    python3 tests/e2e/fault_bench.py kill      [--repeat 5] [--nodes 3] [--victims 1]

partition: a node is cut off under load; from the heal to the moment when it serves again and lacks nothing.
return: a node is down while the others write at full speed; how fast it catches up, and what that does to the latency
of a live load.
recovery: a node with much data is killed; from its start to ready.
join: the last of so many nodes joins, as fast as it can or as `starling throttle` says, beside the disk's own rate and a
live load: before, while the change is paused, while it copies, and after. The second of two gets a copy of everything,
and from then on a message needs two syncs; the fourth of four changes nothing of what a message needs. With --apart its
folder is in memory: a disk of its own, since all the others share one.
kill: nodes are killed by SIGKILL; how long their clients are without service.
"""
import argparse
import json
import os
import subprocess
import sys
import threading
import time
import pathlib

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from fault_lab import STARLING, Lab, clean_environment, eventually, run  # noqa: E402
from fault_net import Namespaces  # noqa: E402


def bench(lab, *words):
    process = subprocess.Popen([STARLING, "bench", "pairs", "--json", "--cluster", str(lab.folder),
                                *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                               env=clean_environment())
    lab.stack.callback(process.kill)
    return process


def result(process):
    out = json.loads(process.communicate()[0])
    if process.returncode != 0 or out["lost"]:
        raise SystemExit(f"the load failed: {out}")
    return out


def latency(out):
    us = out["ack_us"]
    return f"{out['acked']:,} acked, ack p50 {us['p50'] / 1000:.1f} ms, p99 {us['p99'] / 1000:.1f} ms"


def wait_caught_up(node, began):
    """Seconds until it is ready; then until nothing is fetched any more, and how many changes were."""
    eventually("it serves", node.ready, 600)
    ready = time.monotonic() - began
    seen, at = -1, began
    while True:
        fetched = node.metric("starling_fetched_changes_total")
        if fetched != seen:
            seen, at = fetched, time.monotonic()
        elif time.monotonic() - at > 2:
            return ready, at - began, seen
        time.sleep(0.05)


def partition(options):
    with Lab(Namespaces) as lab:
        load = bench(lab, "--users", 200, "--rate", options.rate, "--warm-up", 5, "--duration",
                     options.seconds + 30, "--patience", 120)
        time.sleep(15)
        node = lab.nodes[2]
        fetched = node.metric("starling_fetched_changes_total")
        lab.net.isolate(3)
        time.sleep(options.seconds)
        began = time.monotonic()
        lab.net.heal()
        eventually("it sees all", lambda: node.metric("starling_members_alive") == 3)
        seen = time.monotonic() - began
        eventually("it is caught up", lambda: node.ready() and node.metric("starling_catching_up") == 0, 300)
        ready, last, count = wait_caught_up(node, began)
        print(f"cut off for {options.seconds} s under {options.rate} sends/s: sees all after {seen:.1f} s, serves "
              f"after {ready:.1f} s, last change fetched after {last:.1f} s ({count - fetched:,.0f} fetched)")
        print("load:", latency(result(load)), flush=True)


def come_back(options):
    with Lab(Namespaces) as lab:
        node = lab.nodes[2]
        node.kill()
        wrote = result(bench(lab, "--users", 200, "--in-flight", 16, "--warm-up", 1, "--duration",
                             options.seconds, "--patience", 120))
        print("while it is down:", latency(wrote), flush=True)
        calm = result(bench(lab, "--users", 50, "--rate", options.rate, "--warm-up", 1, "--duration", 8,
                            "--patience", 120))
        print(f"live load of {options.rate}/s before:", latency(calm), flush=True)
        live = bench(lab, "--users", 50, "--rate", options.rate, "--warm-up", 1, "--duration", 12,
                     "--patience", 120)
        time.sleep(2)
        began = time.monotonic()
        node.start(wait=False)
        ready, last, count = wait_caught_up(node, began)
        received = node.metric("starling_link_bytes_received_total")
        print(f"it serves after {ready:.1f} s, last change fetched after {last:.1f} s: {count:,.0f} changes, "
              f"{count / max(last, 0.001):,.0f}/s, {received / 1e6 / max(last, 0.001):.1f} MB/s with all links")
        print(f"live load of {options.rate}/s meanwhile:", latency(result(live)), flush=True)


def size_of(node):
    return sum(f.stat().st_size for f in pathlib.Path(node.data).glob("store/*")) / 1e9


def fill(lab, node, options):
    while size_of(node) < options.gigabytes:
        result(bench(lab, "--users", 40, "--in-flight", 16, "--payload", options.payload, "--warm-up", 0,
                     "--duration", 20, "--patience", 120))
        print(f"{size_of(node):.1f} GB", flush=True)


def disk_rate(folder, megabytes=2000):
    """MB/s of a plain file that is written and synced."""
    began = time.monotonic()
    subprocess.run(["dd", "if=/dev/zero", f"of={folder}/plain", "bs=1M", f"count={megabytes}", "conv=fsync"],
                   check=True, stderr=subprocess.DEVNULL)
    took = time.monotonic() - began
    (pathlib.Path(folder) / "plain").unlink()
    return megabytes * 1.048576 / took


def cpu_seconds(node):
    """User and system time of its process so far."""
    fields = pathlib.Path(f"/proc/{node.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def give_memory(lab, node):
    os.makedirs(node.data, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "size=8g", "tmpfs", node.data)
    lab.stack.callback(lambda: run("umount", "--lazy", node.data))


def join(options):
    with Lab(Namespaces, nodes=options.nodes, later=1) as lab:
        donor, joiner = lab.nodes[0], lab.nodes[-1]
        fill(lab, donor, options)
        eventually("what it wrote is compacted", lambda: donor.metric("starling_compaction_debt_bytes") < 64e6, 600)
        print(f"the disk writes and syncs {disk_rate(lab.folder):.0f} MB/s", flush=True)
        told(lab, options, "before", lambda runs: runs < 3)
        run(STARLING, "throttle", options.limit, "--data", donor.data)
        run(STARLING, "pause", "--data", donor.data)
        if options.apart:
            give_memory(lab, joiner)
        lab.join(joiner)
        eventually("its change is agreed", lambda: json.loads(
            run(STARLING, "ring", "--diff", "--json", "--data", donor.data).stdout)["change"])
        told(lab, options, "while it waits, paused", lambda runs: runs < 3)
        donor_before, joiner_before = cpu_seconds(donor), cpu_seconds(joiner)
        received = joiner.metric("starling_link_bytes_received_total")
        began = time.monotonic()
        run(STARLING, "resume", "--data", donor.data)
        took = []
        watch = threading.Thread(target=lambda: (eventually("it serves", joiner.ready, 1800),
                                                 took.append(time.monotonic() - began)))
        watch.start()
        told(lab, options, "while it copies", lambda _: watch.is_alive())
        watch.join()
        fetched = joiner.metric("starling_link_bytes_received_total") - received
        print(f"joined after {took[0]:.1f} s: {joiner.metric('starling_fetched_changes_total'):,.0f} changes, "
              f"{fetched / 1e9:.2f} GB, {fetched / 1e6 / took[0]:.0f} MB/s; its store {size_of(joiner):.1f} GB; CPU seconds "
              f"of the donor {cpu_seconds(donor) - donor_before:.1f}, with its live load, of the joiner "
              f"{cpu_seconds(joiner) - joiner_before:.1f}", flush=True)
        told(lab, options, "after", lambda runs: runs < 3)


def told(lab, options, when, more):
    """Live loads of 10 s, one after the other, as long as there are more."""
    runs = []
    while not runs or more(len(runs)):
        runs.append(result(bench(lab, "--users", 50, "--rate", options.rate, "--warm-up", 1, "--patience", 120,
                                 "--duration", 10))["ack_us"])
    each = ", ".join(f"{run['p99'] / 1000:.1f}" for run in runs)
    p50 = sorted(run["p50"] for run in runs)[len(runs) // 2] / 1000
    print(f"live load of {options.rate}/s {when}: ack p50 {p50:.1f} ms; p99 of each 10 s: {each} ms", flush=True)


def kill(options):
    with Lab(Namespaces, nodes=options.nodes) as lab:
        others, victims = lab.nodes[:-options.victims], lab.nodes[-options.victims:]
        for _ in range(options.repeat):
            load = lab.load(lines=3000, seconds=30)
            load.wait_sends(300)
            began = time.monotonic()
            for node in victims:
                node.kill()
            eventually("the others know", lambda: all(
                n.metric("starling_members_alive") == len(others) for n in others))
            known = time.monotonic() - began
            time.sleep(3)
            for node in victims:
                node.start()
            report = load.finish()
            held = sum(n.metric("starling_hints_held_total") for n in others)
            away, ack = report["outage_us"], report["ack_us"]
            print(f"{options.victims} of {options.nodes} held for dead by all after {known:.1f} s; their {away['count']} "
                  f"devices were back after p50 {away['p50'] / 1e6:.2f} s, max {away['max'] / 1e6:.2f} s; slowest "
                  f"acknowledgement of all {report['acked']:,}: {ack['max'] / 1e6:.2f} s; stand-ins took {held:,.0f} "
                  f"changes so far", flush=True)
        lab.judge()


def recovery(options):
    with Lab(Namespaces, nodes=options.nodes) as lab:
        node = lab.nodes[-1]
        fill(lab, node, options)
        load = bench(lab, "--users", 40, "--rate", 200, "--warm-up", 0, "--duration", 5, "--patience", 120)
        time.sleep(4)
        node.kill()
        began = time.monotonic()
        node.start(wait=False)
        eventually("it serves", node.ready, 600)
        print(f"killed with {size_of(node):.1f} GB, {len(lab.nodes)} nodes: ready after {time.monotonic() - began:.1f} s")
        load.communicate()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("partition", "return", "recovery", "join", "kill"))
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--rate", type=int)
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--payload", type=int)
    parser.add_argument("--limit", default="off", help="of starling throttle")
    parser.add_argument("--apart", action="store_true", help="join: the joiner has a disk of its own")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--victims", type=int, default=1, help="of kill; with more than one, stand-ins serve")
    options = parser.parse_args()
    options.seconds = options.seconds or (60 if options.what == "partition" else 30)
    options.rate = options.rate or {"partition": 2000, "join": 500}.get(options.what, 1000)
    options.nodes = options.nodes or {"kill": 3, "join": 2}.get(options.what, 1)
    options.payload = options.payload or (65000 if options.what == "recovery" else 4000)
    {"partition": partition, "return": come_back, "recovery": recovery, "join": join, "kill": kill}[options.what](options)


if __name__ == "__main__":
    main()
