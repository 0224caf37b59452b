"""A wall clock of its own for each node, by libfaketimeMT; the machine's is never touched."""
import glob


def library():
    """The library, or None where it is not installed."""
    found = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1") + glob.glob("/usr/lib/faketime/libfaketimeMT.so.1")
    return found[0] if found else None


def preload():
    # The malloc of the C library, and new of that of C++, come before the node's jemalloc: that one asks for the time while
    # it sets itself up, and libfaketime for memory while it does, so each would wait for the other.
    return f"{library()}:libstdc++.so.6:libc.so.6"


def fixed(seconds):
    """The environment of a program whose clock is off by this much."""
    return {"LD_PRELOAD": preload(), "FAKETIME": f"{seconds:+d}", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1"}


class Clock:
    """The clock of one node. REQUIRES: made before the node starts."""

    def __init__(self, node):
        self.file = node.lab.folder / f"clock{node.number}"
        self.step(0)
        node.env |= {"LD_PRELOAD": preload(), "FAKETIME_TIMESTAMP_FILE": str(self.file),
                     "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1", "FAKETIME_NO_CACHE": "1"}

    def step(self, seconds):
        """Off by this much from now on."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self.file)
