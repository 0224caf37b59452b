#!/usr/bin/env python3
"""A long run of Starling: users in pairs write while the stores fill, expire and compact. What stays flat is seen by rows.

  scripts/bench long --rate 7500 --duration 7200          two hours
  scripts/bench long --in-flight 16 --duration 240        at saturation; all options of `starling bench pairs`

Starts a cluster of --nodes (3) and ends it. A row for each --every seconds or so: what was acknowledged and how late, memory
and bytes to disk of all nodes; and of the store that is worst off, at its worst in that time: files in level 0, bytes
that compactions owe, how far apart they kept commits. In the end the write amplification, and how often RocksDB
stalled. Refused as any run of the benchmark: with errors, with loss, or when the client was the bottleneck.
"""
import argparse
import http.client
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import judge
import systems

LOOK_SECONDS = 5
END_TRIES = 10
COUNTED = ("starling_written_bytes_total", "starling_table_bytes_total", "starling_write_stalls_total")
WORST = {"level0_files": "starling_level0_files", "debt_bytes": "starling_compaction_debt_bytes",
         "pace_s": "starling_commit_pace_seconds"}


def metrics_of(admin):
    with urllib.request.urlopen(f"http://{admin}/metrics", timeout=LOOK_SECONDS) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] not in ("#", ""))}


class Watch(threading.Thread):
    """Looks at the stores every few seconds, and keeps the worst of each --every seconds."""

    def __init__(self, admins, every):
        super().__init__(daemon=True)
        self.admins, self.every = admins, every
        self.rows, self.missed = {}, 0
        self.stopped = threading.Event()
        self.before, self.began = self.look(), time.monotonic()

    def look(self):
        return [metrics_of(admin) for admin in self.admins]

    def look_for_certain(self):
        for _ in range(END_TRIES):
            try:
                return self.look()
            except (OSError, http.client.HTTPException):
                time.sleep(LOOK_SECONDS)
        return self.look()

    def run(self):
        while not self.stopped.wait(min(LOOK_SECONDS, self.every / 2)):
            try:
                nodes = self.look()
            except (OSError, http.client.HTTPException):
                self.missed += 1   # Too busy to answer: its latencies say so, too.
                continue
            row = self.rows.setdefault(int((time.monotonic() - self.began) / self.every), {})
            for field, name in WORST.items():
                row[field] = max(row.get(field, 0), *(node[name] for node in nodes))

    def end(self):
        """What all stores together came to."""
        self.stopped.set()
        self.join()
        after = self.look_for_certain()
        written, tables, stalls = (sum(now[name] - then[name] for now, then in zip(after, self.before, strict=True))
                                   for name in COUNTED)
        return {"written_bytes": written, "table_bytes": tables, "write_stalls": stalls, "looks_missed": self.missed,
                "write_amplification": (written + tables) / written if written else 0}


def watched(words, admins, every):
    """The result of `starling bench`, each of its rows with what the stores came to about then."""
    watch = Watch(admins, every)
    watch.start()
    bench = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        result = json.loads(bench.stdout)
    except ValueError as error:
        raise systems.Failure(f"starling bench ended with {bench.returncode} and no result") from error
    stores = watch.end()
    for i, row in enumerate(result["series"]):
        row.update(watch.rows.get(i, {}))
    return result | stores


def mib(count):
    return f"{count / 2**20:,.0f}"


def table(result):
    head = ["from, s", "acked", "p50, ms", "p99, ms", "max, ms", "nodes, MiB", "to disk, MiB", "level 0", "debt, MiB", "commits apart, ms"]
    lines = [head] + [[f"{row['from_s']:.0f}", f"{row['acked']:,}", f"{row['ack_p50_us'] / 1000:.1f}", f"{row['ack_p99_us'] / 1000:.1f}",
                       f"{row['ack_max_us'] / 1000:.0f}", mib(row["rss"]), mib(row["disk_bytes"]), f"{row.get('level0_files', 0):.0f}",
                       mib(row.get("debt_bytes", 0)), f"{row.get('pace_s', 0) * 1000:.1f}"] for row in result["series"]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def summary(result):
    ack = result["ack_us"]
    return (f"{result['acked']:,} acknowledged, {result['lost']} lost, {result['seconds']:,.0f} s; p50 {ack['p50'] / 1000:.1f} ms, "
            f"p99 {ack['p99'] / 1000:.1f} ms\n"
            f"write amplification {result['write_amplification']:.2f}: {result['written_bytes'] / 2**30:.1f} GiB of batches, "
            f"{result['table_bytes'] / 2**30:.1f} GiB of tables; RocksDB stalled {result['write_stalls']:.0f} times")


def options_of(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--every", type=int, default=60, help="seconds of a row (60)")
    parser.add_argument("--lifetime", type=int, default=600, help="seconds that messages are kept (600), so that the stores stay as large")
    parser.add_argument("--patience", type=int, default=120, help="seconds for the last messages to arrive (120)")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the cluster keeps its data meanwhile")
    parser.add_argument("--json", action="store_true")
    return parser.parse_known_args(words)


def main(words):
    options, more = options_of(words)
    system = type("Cluster", (systems.Starling,), {"nodes": options.nodes})
    with tempfile.TemporaryDirectory(prefix="starling-long-", dir=options.folder) as folder:
        with system(pathlib.Path(folder) / "data", {"starling": systems.program("STARLING", "build/node/starling")}) as cluster:
            admins = [json.loads(path.read_text())["admin"] for path in sorted(cluster.folder.glob("cluster/node*/addresses.json"))]
            bench = cluster.load(["pairs", "--users", str(options.users), "--every", str(options.every), "--lifetime",
                                  str(options.lifetime), "--patience", str(options.patience), *more])
            result = watched(bench, admins, options.every)
    reasons = judge.faults(result, any(word.split("=")[0] == "--rate" for word in more))
    print(json.dumps(result | {"refused": reasons}, indent=1) if options.json else f"{table(result)}\n{summary(result)}")
    for reason in reasons:
        print(f"no measurement: {reason}", file=sys.stderr)
    return 1 if reasons else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except systems.Failure as failure:
        sys.exit(f"tests/bench/long_run.py: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
