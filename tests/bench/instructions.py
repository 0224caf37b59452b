#!/usr/bin/env python3
"""Counts the instructions of the hot paths with callgrind and compares them with those in instructions.json, so
that a regression is seen on a noisy machine.

  instructions.py MICRO [--build WORDS] [--record]

Counts hold for one compiler, its options and the libraries. Under other versions of the libraries (an update of Debian's) more
is tolerated; under another compiler, other options or another processor the comparison is skipped. It says so.
Fewer instructions than recorded are good news and only said; scripts/bench instructions --record writes them down.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

RECORDED = pathlib.Path(__file__).with_name("instructions.json")
TOLERANCE = 0.05
TOLERANCE_OTHER_LIBRARIES = 0.25
SKIPPED = 77  # For Meson.
LIBRARIES = ("librocksdb7.8", "libsodium23", "libstdc++6", "libc6", "libxxhash0", "valgrind")
MEASURED = "starling_measured"  # In micro.cc.


def conditions(build):
    """Everything that a count depends on besides our sources."""
    shown = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *LIBRARIES], capture_output=True, text=True)
    flags = pathlib.Path("/proc/cpuinfo").read_text()
    return {"build": build, "libraries": sorted(shown.stdout.split("\n")[:-1]), "avx2": " avx2 " in flags}


def count(micro):
    """{name: instructions of one operation}"""
    listed = subprocess.run([micro, "--names"], capture_output=True, text=True, check=True).stdout
    names = [line.rsplit(" ", 1) for line in listed.splitlines()]
    with tempfile.TemporaryDirectory(prefix="starling-callgrind-") as folder:
        out = pathlib.Path(folder) / "out"
        # Meson has what is allocated filled with a byte of chance, which would be counted.
        environment = {name: value for name, value in os.environ.items() if name != "MALLOC_PERTURB_"}
        done = subprocess.run(["valgrind", "--tool=callgrind", "--collect-atstart=no", f"--toggle-collect={MEASURED}",
                               f"--dump-after={MEASURED}", f"--callgrind-out-file={out}", micro, "--count"],
                              capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            raise SystemExit(f"callgrind failed:\n{done.stderr[-2000:]}")
        counts = {}
        for i, (name, times) in enumerate(names, 1):
            totals = re.search(r"^(?:totals|summary): (\d+)", pathlib.Path(f"{out}.{i}").read_text(), re.MULTILINE)
            counts[name] = round(int(totals.group(1)) / int(times))
        return counts


def compare(recorded, counts, tolerance=TOLERANCE):
    """Lines about what differs, and whether something got worse."""
    lines, worse = [], False
    for name in sorted(set(recorded) | set(counts)):
        before, now = recorded.get(name), counts.get(name)
        if before is None or now is None:
            lines.append(f"{name}: {'not recorded yet' if before is None else 'is gone'}")
            worse = True
            continue
        change = now / before - 1
        note = ""
        if change > tolerance:
            note, worse = "  MORE: make it cheaper, or record it with the reason", True
        elif change < -tolerance:
            note = "  fewer: scripts/bench instructions --record"
        lines.append(f"{name:<24} {before:>9,} -> {now:>9,}  {change:+7.1%}{note}")
    return lines, worse


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("micro")
    parser.add_argument("--build", default="", help="compiler and options, as one text")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        print("SKIPPED: valgrind is not installed; scripts/setup does that")
        return SKIPPED
    here = conditions(options.build)
    if options.record:
        saved = {"conditions": here, "instructions": count(options.micro)}
        RECORDED.write_text(json.dumps(saved, indent=1) + "\n")
        print("\n".join(f"{name:<24} {n:>9,}" for name, n in saved["instructions"].items()))
        return 0
    saved = json.loads(RECORDED.read_text())
    other = [key for key, value in saved["conditions"].items() if here[key] != value]
    for key in other:
        print(f"recorded for another {key}: {saved['conditions'][key]}, here {here[key]}")
    if set(other) - {"libraries"}:
        print("SKIPPED")
        return SKIPPED
    lines, worse = compare(saved["instructions"], count(options.micro), TOLERANCE_OTHER_LIBRARIES if other else TOLERANCE)
    print("\n".join(lines))
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
