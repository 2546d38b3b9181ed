"""Turns itself into a container's process: its own mounts, network, host name, user and capabilities, then exec.

Started by root as `python -I -S enter.py WALLS ARGV...`, WALLS being `walls.Walls` as JSON. The root is an overlay over
the machine's, its upper layer in memory, so that mount points can be made anywhere and nothing is left behind. setpriv
does the last step, and has the kernel kill the process should its keeper be killed.
"""

import contextlib
import ctypes
import json
import os
import socket
import stat
import sys
from typing import Any

_NEW_MOUNTS, _NEW_HOST_NAME, _NEW_IPC, _NEW_NETWORK = 0x20000, 0x4000000, 0x8000000, 0x40000000
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE, _DETACH = 1, 32, 4096, 16384, 1 << 18, 2
_OLD = "/.old-root"
_LIBC = ctypes.CDLL(None, use_errno=True)


def main(walls: dict[str, Any], argv: list[str]) -> None:
    """Does not return."""
    with open(walls["network"]) as network:
        _call("setns", network.fileno(), _NEW_NETWORK)
    _call("unshare", _NEW_MOUNTS | _NEW_HOST_NAME | _NEW_IPC)
    socket.sethostname(walls["host_name"])
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    _enter_root(walls["folder"], walls["needs"])
    _write_names(walls["names"])
    for mount in sorted(walls["mounts"], key=lambda mount: len(mount["path"].split("/"))):
        _bind(_OLD + mount["host"], mount["path"], mount["read_only"])
    for path in _hidden(walls["needs"], [mount["path"] for mount in walls["mounts"]]):
        _bind(_OLD + path, path, read_only=True)
    os.makedirs(walls["cwd"], exist_ok=True)
    _call("umount2", _OLD.encode(), _DETACH)
    os.rmdir(_OLD)
    if walls["read_only"]:
        for path in ("/", *(["/tmp"] if walls["own_tmp"] else [])):
            _mount(None, path, None, _REMOUNT | _BIND | _READ_ONLY)
    os.chdir(walls["cwd"])
    os.execvp("setpriv", ["setpriv", "--pdeathsig", "KILL", *walls["identity"], *argv])


def _enter_root(folder: str, needs: list[str]) -> None:
    """Goes into an overlay of the machine's root, in which the `needs` can be reached by everyone."""
    _mount("tmpfs", folder, "tmpfs", 0, "mode=755")
    upper, work, root = (f"{folder}/{name}" for name in ("upper", "work", "root"))
    for path in (upper, work, root):
        os.mkdir(path, 0o755)
    _mount("overlay", root, "overlay", 0, f"lowerdir=/,upperdir={upper},workdir={work}")
    for path in ("/dev", "/proc", "/sys"):
        _mount(path, root + path, None, _BIND | _RECURSIVE)
    # Not the machine's: an image has an empty one, and a container 64 MiB of shared memory.
    _mount("tmpfs", f"{root}/tmp", "tmpfs", 0, "mode=1777")
    _mount("tmpfs", f"{root}/dev/shm", "tmpfs", 0, "mode=1777,size=64m")
    for path in needs:
        _open_way(root, path)
        if os.stat(path).st_dev != os.stat("/").st_dev:  # a mount of its own, which an overlay does not show
            os.makedirs(root + path, exist_ok=True)
            _mount(path, root + path, None, _BIND | _RECURSIVE)
    os.mkdir(root + _OLD)
    _call("pivot_root", root.encode(), (root + _OLD).encode())
    os.chdir("/")


def _hidden(needs: list[str], mounted: list[str]) -> list[str]:
    """Those that lie below a mount: a checkout in /tmp, where every pod has a volume."""
    return [path for path in needs if any(f"{path}/".startswith(f"{above}/") for above in ("/tmp", *mounted))]


def _open_way(root: str, path: str) -> None:
    """Lets everyone pass through the folders above a path, not read them."""
    while (path := os.path.dirname(path)) != "/":
        if os.path.isdir(root + path):
            mode = stat.S_IMODE(os.stat(root + path).st_mode)
            if not mode & stat.S_IXOTH:
                os.chmod(root + path, mode | stat.S_IXOTH)


def _write_names(folder: str) -> None:
    """Has names looked up in the node's hosts file alone: a link into a folder, in which the file can be replaced."""
    seen = "/.names"
    os.mkdir(seen)
    _bind(_OLD + folder, seen, read_only=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink("/etc/hosts")
    os.symlink(f"{seen}/hosts", "/etc/hosts")
    with contextlib.suppress(FileNotFoundError):
        os.unlink("/etc/resolv.conf")
    with open("/etc/resolv.conf", "w") as resolv:
        resolv.write("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")  # nobody listens: refused at once


def _bind(source: str, target: str, read_only: bool) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "x"):
            pass
    _mount(source, target, None, _BIND | _RECURSIVE)
    if read_only:
        _mount(None, target, None, _REMOUNT | _BIND | _READ_ONLY)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    arguments = [None if text is None else text.encode() for text in (source, target, kind)]
    try:
        _call("mount", *arguments, ctypes.c_ulong(flags), options.encode())
    except OSError as error:
        raise OSError(error.errno, f"mount {source} at {target}: {error.strerror}") from None


def _call(name: str, *arguments: Any) -> None:
    if getattr(_LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
