"""Disks of nodes: a loop file that can lose power, a small tmpfs that can be full, one that says EIO, flipped bits.

Needs root, e2fsprogs and xfsprogs; BadDisk a compiler and nothing else.
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


# Preloaded: calls of a kind fail with EIO on files whose path holds what the file <FAULTS>/<kind> says, from the moment
# that file is there. Each failure adds a byte to <FAULTS>/<kind>.hits. The C library's own reads of a FILE go past it,
# so fread is taken, too. An empty file is none yet.
BAD_CALLS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>
#undef fread_unlocked
#undef ferror_unlocked
#undef feof_unlocked

static const char* faults(void) {
  static const char* folder;
  if (!folder) folder = getenv("STARLING_TEST_FAULTS");
  return folder;
}
static int fails(const char* kind, int fd) {
  const int kept = errno;
  char name[512], wanted[256], link[64], path[4096];
  int bad = 0;
  if (faults()) {
    snprintf(name, sizeof name, "%s/%s", faults(), kind);
    const int file = (int)syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC, 0);
    if (file >= 0) {
      const long size = syscall(SYS_read, file, wanted, sizeof wanted - 1);
      syscall(SYS_close, file);
      snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
      const ssize_t length = readlink(link, path, sizeof path - 1);
      if (size > 0 && length > 0) {
        wanted[size] = path[length] = 0;
        bad = strstr(path, wanted) != NULL;
      }
    }
  }
  if (bad) {
    strcat(name, ".hits");
    const int hits = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (hits >= 0) {
      syscall(SYS_write, hits, "x", 1L);
      syscall(SYS_close, hits);
    }
    snprintf(name, sizeof name, "%s/%s.once", faults(), kind);
    if (syscall(SYS_unlinkat, AT_FDCWD, name, 0) == 0) {
      snprintf(name, sizeof name, "%s/%s", faults(), kind);
      syscall(SYS_unlinkat, AT_FDCWD, name, 0);
    }
    errno = EIO;
    return 1;
  }
  errno = kept;
  return 0;
}
#define NEXT(type, name, args) \
  static type (*next) args; \
  if (!next) next = (type (*) args)dlsym(RTLD_NEXT, name)

int fsync(int fd) { NEXT(int, "fsync", (int)); return fails("sync", fd) ? -1 : next(fd); }
int fdatasync(int fd) { NEXT(int, "fdatasync", (int)); return fails("sync", fd) ? -1 : next(fd); }
ssize_t write(int fd, const void* b, size_t n) {
  NEXT(ssize_t, "write", (int, const void*, size_t));
  return fails("write", fd) ? -1 : next(fd, b, n);
}
ssize_t pwrite64(int fd, const void* b, size_t n, off64_t at) {
  NEXT(ssize_t, "pwrite64", (int, const void*, size_t, off64_t));
  return fails("write", fd) ? -1 : next(fd, b, n, at);
}
ssize_t pwrite(int fd, const void* b, size_t n, off_t at) { return pwrite64(fd, b, n, at); }
ssize_t pread64(int fd, void* b, size_t n, off64_t at) {
  NEXT(ssize_t, "pread64", (int, void*, size_t, off64_t));
  return fails("read", fd) ? -1 : next(fd, b, n, at);
}
ssize_t pread(int fd, void* b, size_t n, off_t at) { return pread64(fd, b, n, at); }
static __thread int bad_file;
size_t fread_unlocked(void* b, size_t size, size_t n, FILE* f) {
  NEXT(size_t, "fread_unlocked", (void*, size_t, size_t, FILE*));
  bad_file = fails("read", fileno(f));
  return bad_file ? 0 : next(b, size, n, f);
}
int ferror_unlocked(FILE* f) {
  NEXT(int, "ferror_unlocked", (FILE*));
  return bad_file ? 1 : next(f);
}
int ferror(FILE* f) {
  NEXT(int, "ferror", (FILE*));
  return bad_file ? 1 : next(f);
}
int feof_unlocked(FILE* f) {
  NEXT(int, "feof_unlocked", (FILE*));
  return bad_file ? 0 : next(f);
}
int feof(FILE* f) {
  NEXT(int, "feof", (FILE*));
  return bad_file ? 0 : next(f);
}
"""


class BadDisk:
    """Says EIO: to syncs, writes or reads of the files named, of one node, from one moment to another."""

    def __init__(self, lab, node):
        self.folder = lab.folder / f"faults{node.number}"
        self.folder.mkdir()
        library = lab.folder / "badcalls.so"
        if not library.exists():
            source = lab.folder / "badcalls.c"
            source.write_text(BAD_CALLS)
            run("gcc", "-shared", "-fPIC", "-o", library, source, "-ldl")
        self.env = {"LD_PRELOAD": str(library), "STARLING_TEST_FAULTS": str(self.folder)}

    def fail(self, kind, path, once=False):
        """Calls of a kind ("sync", "write", "read") on files whose path holds `path`; or the next one of them."""
        if once:
            (self.folder / f"{kind}.once").touch()
        (self.folder / "next").write_text(str(path))
        (self.folder / "next").rename(self.folder / kind)

    def mend(self):
        for kind in ("sync", "write", "read"):
            (self.folder / kind).unlink(missing_ok=True)

    def hits(self, kind):
        """How many calls failed so far."""
        hits = self.folder / f"{kind}.hits"
        return hits.stat().st_size if hits.exists() else 0


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
