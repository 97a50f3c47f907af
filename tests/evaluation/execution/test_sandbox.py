"""A command in the sandbox sees and changes nothing of the host, and leaves no process: as root and as a user."""

import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from blocklm.errors import UserError
from blocklm.evaluation.execution.limits import Outcome, ResourceLimits
from blocklm.evaluation.execution.sandbox import check_isolation, run
from tests.conftest import ROOT
from tests.support.scripts import script_environment

MIB = 1 << 20
SMALL = ResourceLimits(seconds=10, memory=200 * MIB, disk=16 * MIB, processes=40, output=MIB)
SHORT = ResourceLimits(seconds=1, memory=200 * MIB, disk=16 * MIB, processes=40, output=MIB)
SECRET = "correct-horse-battery-staple"
USER = 12345
Runs = Callable[..., Outcome]
installed = pytest.mark.usefixtures("bubblewrap")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the host with a secret, which an ordinary user may read and write.

    The secret is in the environment too.
    """
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with tempfile.TemporaryDirectory(prefix="place-") as folder:
        place = Path(folder)
        (place / "tree").mkdir()
        (place / "tree" / "file.txt").write_text("as committed\n")
        (place / "secret").write_text(SECRET)
        for path in (place, place / "tree"):
            path.chmod(0o777)
        yield place


def as_user(call: Callable[[], Any]) -> Any:
    """The result of a call in a process of an ordinary user."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(USER)
            os.setuid(USER)
            os.environ["HOME"] = "/home/somebody"
            answer: Any = call()
        except BaseException as error:
            answer = AssertionError(repr(error))  # ours do not all survive a pickle
        with os.fdopen(writing, "wb") as file:
            pickle.dump(answer, file)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        answer = pickle.load(file)
    os.waitpid(child, 0)
    if isinstance(answer, BaseException):
        raise answer
    return answer


def as_we_are(call: Callable[[], Any]) -> Any:
    return call()


# A test run by root tries both; an ordinary user can be nobody else.
@pytest.fixture(params=["root", "user"] if os.geteuid() == 0 else ["user"])
def by(request: pytest.FixtureRequest) -> Callable[[Callable[[], Any]], Any]:
    return as_user if request.param == "user" and os.geteuid() == 0 else as_we_are


@pytest.fixture
def shell(by: Callable[[Callable[[], Any]], Any], place: Path) -> Runs:
    """Run a shell script in the sandbox."""

    def runs(script: str, limits: ResourceLimits = SMALL, **given: Any) -> Outcome:
        found: Outcome = by(lambda: run(["bash", "-c", script], place / "tree", limits, **given))
        return found

    return runs


def running(*words: str) -> list[int]:
    """Find the processes whose command line contains all the words."""
    found = psutil.process_iter(["cmdline"])
    return [one.pid for one in found if all(word in (one.info["cmdline"] or []) for word in words)]


def gone(*words: str) -> bool:
    deadline = time.monotonic() + 10
    while running(*words) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not running(*words)


@installed
def test_a_command_works_on_a_copy_of_the_tree(shell: Runs, place: Path) -> None:
    assert shell("cat file.txt; echo more >> file.txt; cat file.txt; touch new; exit 3") == Outcome(
        "exit", 3, "as committed\nas committed\nmore\n"
    )
    assert (place / "tree" / "file.txt").read_text() == "as committed\n"
    assert [path.name for path in (place / "tree").iterdir()] == ["file.txt"]
    assert shell("true").passed
    assert not shell("kill -9 $$").passed


@installed
def test_a_strict_umask_does_not_change_the_result(shell: Runs, by: Callable[..., Any]) -> None:
    before = os.umask(0o077)
    try:
        by(check_isolation)
        assert shell("touch new && stat -c %a new").tail == "644\n"
    finally:
        os.umask(before)


@installed
def test_the_sandbox_sees_no_secret_of_the_host(shell: Runs, place: Path) -> None:
    looks = f"env; cat {place}/secret {Path.home()}/.* /proc/*/environ /etc/shadow /etc/passwd; ls -A ~ /root /home; echo looked"
    tail = shell(looks).tail
    assert tail.endswith("looked\n")
    assert SECRET not in tail
    assert "root:x" not in tail


@installed
def test_the_sandbox_writes_no_file_outside(shell: Runs, place: Path) -> None:
    places = f"{place}/tree/x {place}/x /usr/x /x /dev/x /tree/x /proc/sys/kernel/hostname /etc/x"
    assert (
        shell(f"n=0; for at in {places}; do (echo x > $at) 2>/dev/null && n=$((n + 1)); done; echo $n").tail == "0\n"
    )
    assert not (place / "x").exists()


@installed
def test_the_sandbox_has_no_network(shell: Runs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        outcome = shell(f"echo hello > /dev/tcp/127.0.0.1/{port} || echo refused; tail -n +3 /proc/net/dev")
    assert "refused" in outcome.tail
    assert [line.split()[0] for line in outcome.tail.splitlines() if line.strip().endswith("0")] == ["lo:"]


@installed
def test_the_sandbox_gains_no_rights(shell: Runs) -> None:
    assert shell("unshare -U true || unshare -m true || mount -t tmpfs x /tmp || chroot / true").returncode
    status = shell("grep -E '^(Cap|NoNew)' /proc/self/status").tail
    assert [line.split()[1].strip("0") for line in status.splitlines()] == ["", "", "", "", "", "1"]


@installed
def test_a_fork_bomb_is_stopped_and_leaves_no_process(shell: Runs) -> None:
    mark = f"41{os.getpid()}"
    outcome = shell(f"f() {{ sleep {mark} & f | f & }}; f; sleep {mark}", SHORT)
    assert outcome.ended == "timeout"
    assert "Resource temporarily unavailable" in outcome.tail
    assert not running("sleep", mark)
    counts = "while ((SECONDS < 1)); do :; done; set -- /proc/[0-9]*; echo $#; exit"
    counted = int(shell(f"f() {{ sleep {mark} & f | f & }}; f 2>/dev/null & {counts}").tail)
    assert 10 < counted <= SMALL.processes + 3  # of which three are bubblewrap's
    assert not running("sleep", mark)


@installed
def test_memory_is_bounded_for_each_process_and_for_all_together(shell: Runs) -> None:
    alone = shell("set -o pipefail; head -c 1G /dev/zero | tail")  # which keeps what it reads
    assert alone.ended == "memory" or "memory exhausted" in alone.tail
    assert not alone.passed
    together = "for i in 1 2 3 4 5 6; do (head -c 100M /dev/zero; sleep 9) | tail & done; wait"
    assert shell(together).ended == "memory"


@installed
@pytest.mark.parametrize(
    "kept",
    [
        "import mmap; it = mmap.mmap(-1, 600 << 20); [it.write(bytes(1 << 20)) for _ in range(600)]",
        "import os; it = [os.memfd_create('x') for _ in range(60)]; [os.write(one, bytes(10 << 20)) for one in it]",
    ],
)
def test_memory_that_belongs_to_no_process_is_limited_too(place: Path, kept: str) -> None:
    python = Path(sys.executable).resolve()
    binds = [] if python.is_relative_to("/usr") else [Path(sys.base_prefix)]
    script = f"{kept}; import time; time.sleep(9)"
    assert run([str(python), "-c", script], place / "tree", SMALL, binds).ended == "memory"
    assert run([str(python), "-c", "import json, ssl"], place / "tree", SMALL, binds).passed


@installed
@pytest.mark.parametrize("where", [".", "/tmp", "/dev/shm", "~"])
def test_disk_is_bounded(shell: Runs, where: str) -> None:
    fills = f"cd {where} && for i in {{1..30}}; do head -c 8M /dev/zero > $i || exit 7; done"
    assert shell(fills).returncode == 7


@installed
def test_output_is_bounded_and_may_be_shown(shell: Runs) -> None:
    assert shell("yes").ended == "output"
    assert shell(r"printf '\033[31mred\007\n'").tail == "[31mred\n"


@installed
def test_the_sandbox_kills_no_outside_process_and_ends_at_its_timeout(shell: Runs) -> None:
    mark = f"42{os.getpid()}"
    assert shell("kill -9 -1; kill -9 1 $PPID; exit 5").returncode
    stays = f"trap '' TERM INT HUP; setsid sleep {mark} & (setsid bash -c 'exec >/dev/null 2>&1; sleep {mark}' &)"
    assert shell(f"{stays}; sleep {mark}", SHORT).ended == "timeout"
    assert not running("sleep", mark)
    assert shell(f"{stays}; exit 0", SHORT).passed, "its end is the end of all"
    assert not running("sleep", mark)


@installed
@pytest.mark.parametrize("begun", [1, 2, 3])
def test_the_sandbox_dies_with_its_parent_at_any_time(begun: int, place: Path) -> None:
    mark = f"43{os.getpid()}{begun}"
    starts = (
        "from pathlib import Path; from blocklm.evaluation.execution.sandbox import run; from blocklm.evaluation.execution.limits import ResourceLimits; "
        f"run(['sleep', '{mark}'], Path('{place}/tree'), ResourceLimits(99, {200 * MIB}, {16 * MIB}))"
    )
    with subprocess.Popen([sys.executable, "-c", starts], cwd=ROOT, env=script_environment()) as process:
        while len(running("sleep", mark)) < begun:  # bubblewrap's two processes hold it too
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert gone("sleep", mark)


@installed
def test_a_toolchain_is_seen_without_its_tokens(shell: Runs, place: Path) -> None:
    tools = place / "home" / ".cargo"
    (tools / "bin").mkdir(parents=True)
    (tools / "credentials.toml").write_text(SECRET)
    (tools / "config").write_text("jobs = 1\n")
    (tools / "bin" / "tool").write_text("#!/bin/sh\necho $0\n")
    (tools / "bin" / "tool").chmod(0o755)
    outcome = shell(f"tool; cat {tools}/credentials.toml {tools}/config; echo x > {tools}/config", binds=[tools])
    assert {f"{tools}/bin/tool", "jobs = 1"} < set(outcome.tail.splitlines())
    assert "Read-only file system" in outcome.tail
    assert SECRET not in outcome.tail


@installed
def test_the_sandbox_checks_its_own_isolation(by: Callable[[Callable[[], Any]], Any], place: Path) -> None:
    by(check_isolation)
    with pytest.raises(UserError, match="show generated code all of"):
        check_isolation([Path.home()])
    with pytest.raises(UserError, match="is no folder"):
        check_isolation([place / "nowhere"])


@installed
@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("--unshare-net", "it has a network"),
        ("--disable-userns", "it may make namespaces"),
        ("--unshare-everything-is-unknown", None),
    ],
)
def test_a_missing_part_of_the_isolation_is_detected(
    left_out: str, message: str | None, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fake = shutil.which("bwrap"), place / "bwrap"
    fake.write_text(
        '#!/bin/bash\nfor each; do [ "$each" = "' + left_out + '" ] || kept+=("$each"); done\n'
        f'exec {real} "${{kept[@]}}"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    if message is None:
        check_isolation()
    else:
        with pytest.raises(UserError, match=message):
            check_isolation()


def test_without_bubblewrap_no_command_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(place))
    for starts in (check_isolation, lambda: run(["touch", str(place / "ran")], place / "tree", SMALL)):
        with pytest.raises(UserError, match="`bwrap`"):
            starts()
    assert not (place / "ran").exists()


def test_the_refusal_names_the_package_to_install(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(place))
    with pytest.raises(UserError) as error:
        check_isolation()
    assert "apt install bubblewrap" in error.value.hint
