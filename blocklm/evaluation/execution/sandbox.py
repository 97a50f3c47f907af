"""Runs untrusted code: one command in a private copy of a tree, isolated by bubblewrap.

The command has no network, no capabilities and no way to new namespaces. It sees only `/usr` and the bound folders of
the host, all read-only, and gets a fresh environment. The kernel limits each process, and a watch in this process
limits their sum. Without bubblewrap nothing runs. The sandbox is for careless generated code, not for attacks on the
kernel.
"""

import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from blocklm.errors import UserError
from blocklm.evaluation.execution.limits import SMALL, Outcome, ResourceLimits, Watch, kernel_limits

KILLED_WITHIN = 10  # seconds; freeing much memory takes a moment
WORK, INNER = "/tmp/work", "/bwrap"  # inside
# Bubblewrap's two processes ask the kernel, one after the other, to be killed when this process ends. If this process
# is killed before both have asked, a keeper in their group kills them, and a command that waits at the gate never
# starts: both wait for a `read` that ends when this process does.
KEEPER = '(read -r _ <"/proc/self/fd/$0"; kill -KILL 0) >/dev/null 2>&1 & exec "$@"'
GATE = "echo >&0 && read -r _"
SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64")
SHARED = ("/etc/ld.so.cache", "/etc/alternatives")
# Files with tokens in folders that tools need; each is replaced by a device that cannot be read.
TOKEN_FILES = (".credentials", ".git-credentials", ".netrc", ".pypirc", "credentials", "credentials.toml")
INSTALL = "`apt install bubblewrap` (0.8 or newer), or leave `check_command` out: nothing generated runs without it"
# Each line prints a property that does not hold. `$1` is a file of the host.
SELF_TEST = """
[ -e "$1" ] && echo "a file of the host is seen"
grep -q '^CapEff:.0000000000000000$' /proc/self/status || echo "it has capabilities"
grep -q '^NoNewPrivs:.1$' /proc/self/status || echo "it may gain privileges"
tail -n +3 /proc/net/dev | grep -qv ' *lo:' && echo "it has a network"
unshare -U true 2>/dev/null && echo "it may make namespaces"
[ "$(id -u)" = 65534 ] || echo "it is a user of the host"
touch /usr/.blocklm 2>/dev/null && echo "the system can be written"
grep -q "^Max processes *$2 " /proc/self/limits || echo "its number of processes has no limit"
echo proved
"""


def run(command: Sequence[str], tree: Path, limits: ResourceLimits, binds: Sequence[Path] = ()) -> Outcome:
    """Run a command in a copy of `tree` until it ends or exceeds a limit; no process or file of it is left afterwards.

    Args:
        command: the program and its arguments.
        tree: folder to copy; must be readable by everybody if this process runs as root.
        limits: limits of all its processes together.
        binds: folders of the host that it may read, at their own paths; their `bin` folders come first in `PATH`.

    Raises:
        UserError: bubblewrap is not installed.
    """
    inside = ["sh", "-c", f'cp -a /tree {WORK} && cd {WORK} && {GATE} && exec "$@" </dev/null', "sh", *command]
    output_read, output_write = os.pipe()
    info_read, info_write = os.pipe()
    gate, its_gate = socket.socketpair()
    alive, living = os.pipe()
    try:
        arguments = _bubblewrap(tree, limits, binds)
        started = [next(arguments), "--info-fd", str(info_write), *arguments, *kernel_limits(limits), *inside]
        process = subprocess.Popen(
            ["sh", "-c", KEEPER, str(alive), *started],
            stdin=its_gate.fileno(),
            stdout=output_write,
            stderr=output_write,
            pass_fds=[info_write, alive],
            env={"PATH": os.environ.get("PATH", os.defpath)},  # bubblewrap's own can be read in its /proc
            start_new_session=True,
            umask=0o022,  # the same permissions on the check's own files for every user
        )
    except BaseException:
        os.close(output_read)
        os.close(info_read)
        os.close(living)
        gate.close()
        raise
    finally:
        os.close(output_write)
        os.close(info_write)
        os.close(alive)
        its_gate.close()
    try:
        _open_gate(gate, limits)
        return Watch(process, output_read, limits).outcome()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(living)
        os.close(output_read)
        _wait_for_the_last(info_read)


def _open_gate(gate: socket.socket, limits: ResourceLimits) -> None:
    """Let the command start once the sandbox is set up and will be killed together with this process."""
    with gate, suppress(OSError):  # it has ended or exceeded its time already, which the watch reports
        gate.settimeout(limits.seconds)
        if gate.recv(1):
            gate.sendall(b"\n")


def _wait_for_the_last(info_read: int) -> None:
    """Wait until the first process inside has ended, which the kernel ends after all others."""
    with os.fdopen(info_read, encoding="utf-8") as file:
        info = file.read()
    with suppress(ProcessLookupError):
        first = os.pidfd_open(json.loads(info)["child-pid"]) if info else None
        if first is not None:
            select.select([first], [], [], KILLED_WITHIN)
            os.close(first)


def check_isolation(binds: Sequence[Path] = ()) -> None:
    """Start the sandbox once and test its isolation.

    Raises:
        UserError: bubblewrap is not installed, does not start or does not isolate here, or a bind is too wide.
    """
    for bind in binds:
        _check_bind(bind)
    limits = ResourceLimits(30, 1 << 30, SMALL, processes=64)
    with tempfile.TemporaryDirectory(prefix="blocklm-") as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        tree.chmod(0o755)  # whatever our umask is
        outcome = run(["sh", "-c", SELF_TEST, "sh", folder, str(limits.processes)], tree, limits, binds)
    if outcome.tail.strip() != "proved":
        raise UserError(
            f"the sandbox for `check_command` does not isolate commands on this machine: {outcome.tail.strip() or outcome.ended}",
            "install bubblewrap 0.8 and allow user namespaces (Docker's seccomp profile and Ubuntu's AppArmor may forbid "
            "them), or leave `check_command` out",
        )


def _check_bind(bind: Path) -> None:
    home = Path.home()
    if not bind.is_absolute() or not bind.is_dir():
        raise UserError(f"`check_binds` names {bind}, which is no folder", "give full paths, such as ~/.cargo")
    if bind in (home, *home.parents) or bind.is_relative_to("/etc"):
        raise UserError(
            f"`check_binds` would show generated code all of {bind}", "name only the folders of the toolchain"
        )


def _bubblewrap(tree: Path, limits: ResourceLimits, binds: Sequence[Path]) -> Iterator[str]:
    """Yield bubblewrap and its arguments, up to the command."""
    program = shutil.which("bwrap")
    if program is None:
        raise UserError("`check_command` needs bubblewrap (`bwrap`), which is not installed", INSTALL)
    yield from (program, "--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv")
    yield from (f"--unshare-{what}" for what in ("pid", "net", "ipc", "uts", "cgroup-try"))
    home = _home()
    path = [f"{bind}/bin" for bind in binds if (bind / "bin").is_dir()] + ["/usr/local/bin", "/usr/bin", "/bin"]
    environment = {
        "PATH": ":".join(path),
        "HOME": home,
        "USER": "nobody",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for name, value in environment.items():
        yield from ("--setenv", name, value)
    yield from ("--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev")
    for there in (Path("/", name) for name in SYSTEM):
        if there.is_symlink():
            yield from ("--symlink", str(there.readlink()), str(there))
        else:
            yield from ("--ro-bind-try", str(there), str(there))
    for shared in SHARED:
        yield from ("--ro-bind-try", shared, shared)
    for place, size in (("/tmp", limits.disk), ("/dev/shm", SMALL), (home, SMALL)):
        yield from ("--perms", "1777", "--size", str(size), "--tmpfs", place)
    for bind in binds:
        yield from _bind_arguments(bind)
    yield from ("--ro-bind", str(tree), "/tree", "--ro-bind", program, INNER)
    yield from ("--remount-ro", "/dev", "--remount-ro", "/", "--cap-drop", "ALL")
    if os.geteuid():
        yield from (*_nobody(), "--")
        return
    # Root's processes are not limited in number, so root becomes another user first. That nameless user needs
    # namespaces of its own once more to give up the right to make any.
    kept = (argument for name in ("SETUID", "SETGID", "SETPCAP") for argument in ("--cap-add", f"CAP_{name}"))
    user = str(random.SystemRandom().randint(1 << 20, 1 << 30))
    yield from (*kept, "--", "setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--inh-caps=-all")
    yield from (
        "--bounding-set=-all",
        "--no-new-privs",
        "--",
        INNER,
        "--bind",
        "/",
        "/",
        "--dev-bind",
        "/dev",
        "/dev",
    )
    yield from ("--cap-drop", "ALL", *_nobody(), "--")


def _nobody() -> tuple[str, ...]:
    return ("--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534")


def _home() -> str:
    """Return the path of the sandbox's empty home: the user's own, so that a toolchain bound below it is found."""
    home = Path.home()
    hidden = home == Path("/") or any(home.is_relative_to(place) for place in ("/usr", "/proc", "/dev"))
    return "/home" if hidden else str(home)


def _bind_arguments(bind: Path) -> Iterator[str]:
    for parent in reversed(bind.parents[:-1]):
        # Bubblewrap would close folders that it makes itself if their source is closed to others.
        yield from ("--dir", str(parent))
    yield from ("--ro-bind", str(bind.resolve()), str(bind))
    for name in TOKEN_FILES:
        if (bind / name).is_file():
            yield from ("--ro-bind", os.devnull, str(bind / name))
