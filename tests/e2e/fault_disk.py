"""Disks of nodes: a loop file that can lose power, a small tmpfs that can be full, flipped bits.

Needs root, e2fsprogs and xfsprogs.
"""
import os
import pathlib

from fault_lab import Failure, run


class Disk:
    """A file system of its own; the node's folder on it is reached by <lab>/nodeN."""

    def __init__(self, lab, node):
        self.point = lab.folder / f"disk{node.number}"
        self.point.mkdir()
        lab.stack.callback(self.umount)
        self.mount()
        # A folder inside: a fresh ext4 is not empty.
        (self.point / "data").mkdir(exist_ok=True)
        node.data.symlink_to(self.point / "data")

    def umount(self):
        run("umount", self.point, check=False)


class PowerDisk(Disk):
    """ext4 on a loop file. cut_power() throws away everything that was not synced."""

    def __init__(self, lab, node):
        self.file = lab.folder / f"disk{node.number}.ext4"
        with open(self.file, "wb") as file:
            file.truncate(512 << 20)
        run("mkfs.ext4", "-q", self.file)
        super().__init__(lab, node)
        run("sync", "-f", self.point)

    def mount(self):
        run("mount", "-o", "loop", self.file, self.point)

    def cut_power(self):
        """From now on nothing reaches the disk, and what was in the page cache never will."""
        run("xfs_io", "-x", "-c", "shutdown", self.point)

    def power_back(self):
        """REQUIRES: no process has a file open on it."""
        run("umount", self.point)
        self.mount()


class SmallDisk(Disk):
    """A tmpfs that can be filled."""

    SIZE = 400 << 20

    def mount(self):
        run("mount", "-t", "tmpfs", "-o", f"size={self.SIZE}", "starling-faults", self.point)

    def fill(self, leave):
        """All but `leave` bytes of what is free."""
        free = os.statvfs(self.point)
        count = free.f_bavail * free.f_frsize - leave
        with open(self.point / "filler", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(count, 1))

    def make_room(self):
        (self.point / "filler").unlink()


def flip_bit(path, at=0.5):
    """One bit of a file, at this share of its length."""
    with open(path, "r+b") as file:
        size = path.stat().st_size
        file.seek(int(size * at))
        byte = file.read(1)
        file.seek(int(size * at))
        file.write(bytes([byte[0] ^ 0x10]))


def newest(data, pattern):
    """The largest file of the store whose name fits."""
    found = sorted(pathlib.Path(data).glob(f"store/{pattern}"), key=lambda path: path.stat().st_size)
    if not found or found[-1].stat().st_size == 0:
        raise Failure(f"no {pattern} in {data}/store")
    return found[-1]
