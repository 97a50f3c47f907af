"""A repository of every oddity known to us, written through `git fast-import` so that it can hold any bytes."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

FILE, PROGRAM, LINK = b"100644", b"100755", b"120000"
BODY = b"".join(b"line %d\n" % number for number in range(40))
ODD_NAMES = (
    b"plain.txt", b"with space.txt", b"tab\there.txt", b"nl\nname.txt", b'quote".txt', b"back\\slash.txt", b"unic\xc3\xb6de.txt",
    b"trail ", b" lead", b"x b/x", b'"q"', b"it's", b"a/b/c.py", b"b/a/b.py", b"-dash", b"cr\r.txt",
    b"emoji\xf0\x9f\x98\x80.py", b"dev/null", b"x => y.txt", b"{a}.txt", b"$v.txt", b"star*.txt", b"q\x01.txt", b"del\x7f.txt",
)  # fmt: skip
ADA = b"Ada <ada@x.org> %d +0530"
Change = tuple[bytes, ...]


class Torture:
    """Builds a `git fast-import` stream; every commit gets a mark and a minute of its own."""

    def __init__(self) -> None:
        self.stream: list[bytes] = []
        self.count = 0

    def commit(
        self,
        message: bytes,
        changes: Sequence[Change] = (),
        parents: Sequence[int] = (),
        branch: bytes = b"main",
        author: bytes = ADA,
        encoding: bytes = b"",
        root: bool = False,
    ) -> int:
        """Append a commit, return its mark."""
        self.count += 1
        time = 1_600_000_000 + 60 * self.count
        lines = [b"reset refs/heads/" + branch, b""] if root else []
        lines += [b"commit refs/heads/" + branch, b"mark :%d" % self.count, b"author " + author % time]
        lines += [b"committer C O Mitter <c@x.org> %d -0700" % time]
        lines += [b"encoding " + encoding] if encoding else []
        lines += [b"data %d" % len(message), message]
        lines += [b"%s :%d" % (word, mark) for word, mark in zip([b"from"] + [b"merge"] * 9, parents, strict=False)]
        self.stream.append(b"\n".join(lines) + b"\n" + b"".join(map(_command, changes)) + b"\n")
        return self.count

    def build(self, path: Path) -> Path:
        """Write the repository, bare."""
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch", "main", str(path)], check=True)
        command = ["git", "-C", str(path), "fast-import", "--quiet", "--date-format=raw-permissive"]
        subprocess.run(command, input=b"".join(self.stream), check=True)
        return path


def write(path: bytes, content: bytes, mode: bytes = FILE) -> Change:
    """Create or replace a file."""
    return (b"M", mode, path, content)


def delete(path: bytes) -> Change:
    """Remove a file."""
    return (b"D", path)


def rename(old: bytes, new: bytes) -> Change:
    """Rename a file without changing it."""
    return (b"R", old, new)


def link_module(path: bytes, commit: bytes) -> Change:
    """Point a submodule at a commit."""
    return (b"S", commit, path)


def _command(change: Change) -> bytes:
    match change:
        case (b"M", mode, path, content):
            return b"M %s inline %s\ndata %d\n%s\n" % (mode, _quoted(path), len(content), content)
        case (b"S", commit, path):
            return b"M 160000 %s %s\n" % (commit, _quoted(path))
        case (kind, *paths):
            return kind + b" " + b" ".join(map(_quoted, paths)) + b"\n"
    raise AssertionError(change)


def _quoted(path: bytes) -> bytes:
    plain = b"".join(bytes([c]) if 32 <= c <= 126 and c not in b'"\\' else b"\\%03o" % c for c in path)
    return b'"' + plain + b'"'


def torture_repository(path: Path) -> Path:
    """Every oddity at least once; about sixty commits."""
    made = Torture()
    _odd_names(made)
    _odd_kinds(made)
    _odd_texts(made)
    _odd_messages(made)
    _odd_merges(made)
    return made.build(path)


def _odd_names(made: Torture) -> None:
    made.commit(b"root\n", [write(name, BODY + name) for name in ODD_NAMES])
    edited = {name: BODY.replace(b"line 3\n", b"LINE 3\n") + name for name in ODD_NAMES}
    made.commit(b"edit all\n", [write(name, text) for name, text in edited.items()])
    made.commit(b"move all\n", [rename(name, b"moved/" + name) for name in ODD_NAMES])
    moved = {name: text.replace(b"line 7\n", b"seven\n") for name, text in edited.items()}
    back = [step for name, text in moved.items() for step in (delete(b"moved/" + name), write(name, text))]
    made.commit(b"move back with an edit\n", back)
    # Where ` b/` stands in a name, PyDriller misreads a mode change: a test of its own shows that.
    modes = [write(name, text, PROGRAM) for name, text in moved.items() if b" b/" not in name]
    made.commit(b"mode only\n", modes)
    nine = {name: text.replace(b"line 9\n", b"nine\n") for name, text in moved.items()}
    made.commit(b"mode back and an edit\n", [write(name, text) for name, text in nine.items()])
    away = [step for n in ODD_NAMES[:8] for step in (delete(n), write(b"away/" + n, nine[n], PROGRAM))]
    made.commit(b"move and mode\n", away)
    home = [step for n in ODD_NAMES[:8] for step in (delete(b"away/" + n), write(n, nine[n] + b"!\n"))]
    made.commit(b"move, mode and edit\n", home)
    made.commit(b"deep\n", [write(b"long/" + b"d/" * 60 + b"f" * 200, b"1\n")])
    made.commit(b"many\n", [write(b"many/%04d.txt" % n, b"%d\n" % n * (n % 7)) for n in range(300)])
    away = [
        step
        for n in range(300)
        for step in (delete(b"many/%04d.txt" % n), write(b"more/%04d.txt" % n, b"%d\n" % n * (n % 7)))
    ]
    made.commit(b"many moved\n", away)


def _odd_kinds(made: Torture) -> None:
    module = b'[submodule "sub"]\n\tpath = sub\n\turl = ../sub\n'
    made.commit(b"kinds\n", [
        write(b"empty", b""), write(b"run.sh", b"#!/bin/sh\n", PROGRAM), write(b"link", b"plain.txt", LINK),
        write(b"bin.dat", bytes(range(256)) * 4), link_module(b"sub", b"1" * 40), write(b".gitmodules", module),
        write(b"copy.txt", BODY),
    ])  # fmt: skip
    made.commit(b"empty commit\n")
    made.commit(b"copy\n", [write(b"copied.txt", BODY + b"and more\n")])
    made.commit(b"file to link\n", [write(b"run.sh", b"target", LINK)])
    made.commit(b"link to file\n", [write(b"run.sh", BODY)])
    made.commit(b"file to module\n", [link_module(b"copy.txt", b"2" * 40)])
    made.commit(b"module bump\n", [link_module(b"copy.txt", b"3" * 40), link_module(b"sub", b"4" * 40)])
    made.commit(b"module to file\n", [write(b"copy.txt", b"hi\n")])
    made.commit(b"module away\n", [delete(b"sub")])
    made.commit(b"binary and empty away\n", [delete(b"bin.dat"), delete(b"empty"), write(b"empty2", b"")])
    made.commit(b"mode of empty\n", [write(b"empty2", b"", PROGRAM)])
    made.commit(b"binary\n", [write(b"b1.dat", bytes(range(256)) * 40)])
    made.commit(b"binary moved\n", [delete(b"b1.dat"), write(b"b 2 b/x.dat", bytes(range(256)) * 40 + b"zz")])
    made.commit(b"attributes\n", [
        write(b".gitattributes", b"*.nodiff -diff\n*.forced diff\n"),
        write(b"z.nodiff", b"text\n"), write(b"z.forced", b"bin\0ary\n"),
    ])  # fmt: skip
    made.commit(b"attributes apply\n", [write(b"z.nodiff", b"text2\n"), write(b"z.forced", b"bin\0ary2\n")])


def _odd_texts(made: Torture) -> None:
    utf16 = "hello\n".encode("utf-16")
    made.commit(b"texts\n", [
        write(b"crlf.txt", b"a\r\nb\r\nc\r\n"), write(b"noeol.txt", b"no eol"), write(b"latin.txt", b"caf\xe9\n" * 3),
        write(b"u16.txt", utf16), write(b"nul.rs", b"fn a() {}\n\0\n"), write(b"cr.txt", b"a\rb\rc\n+x\r\n-y\rz"),
    ])  # fmt: skip
    made.commit(b"texts edited\n", [
        write(b"crlf.txt", b"a\r\nB\r\nc\r\n"), write(b"noeol.txt", b"no eol2"), write(b"cr.txt", b"a\r+b\rc\n+x\r\n-y\rz\n"),
        write(b"latin.txt", b"caf\xe9\n" * 2 + b"th\xe9\n"), write(b"u16.txt", utf16 + b"!"), write(b"nul.rs", b"fn a() {}\n"),
    ])  # fmt: skip
    made.commit(b"line ends\n", [write(b"crlf.txt", b"a\nB\nc\n"), write(b"noeol.txt", b"no eol2\n")])
    made.commit(b"invalid\n", [write(b"bad.txt", b"\xff\xfe\xc3\n\xc3(\n\xe2\x82\n")])
    looks = (
        b"diff --git a/x b/x\n-- a/x\n++ b/x\n@@ -1 +1 @@\n"
        + b"a" * 40
        + b"\n.\nBinary files a and b differ\n\\ No newline\n"
    )
    made.commit(b"looks like a patch\n", [write(b"look.txt", looks)])
    made.commit(
        b"still does\n", [write(b"look.txt", looks.replace(b"x", b"y") + b".\n\x0c\xc2\x85\xe2\x80\xa8\x1c\x1dend")]
    )
    made.commit(b"dashes\n", [write(b"look.txt", b"-- only\n++ only\n"), write(b"--opt", b"-- x\n")])
    made.commit(b"fewer dashes\n", [write(b"look.txt", b"++ only\n"), delete(b"--opt")])
    made.commit(b"blank\n", [write(b"blank.py", b"\n\n\ndef f():\n\n    pass\n\n\n")])
    made.commit(b"white space\n", [write(b"blank.py", b"\n\n\ndef f():\n\n        pass\n\n\n")])
    made.commit(b"5 MB lines\n", [write(b"wide.js", b"a" * 5_000_000 + b"\n" + b"b" * 5_000_000)])
    made.commit(b"5 MB lines edited\n", [write(b"wide.js", b"a" * 5_000_000 + b"!\n" + b"b" * 5_000_000)])


def _odd_messages(made: Torture) -> None:
    def one(text: bytes, message: bytes, author: bytes = ADA, encoding: bytes = b"") -> None:
        made.commit(message, [write(b"m", text)], author=author, encoding=encoding)

    one(b"1\n", b"")
    one(b"2\n", "café\n".encode("latin-1"), "Jürg <j@x> %d +0000".encode("latin-1"), b"ISO-8859-1")
    one(b"3\n", b"bad \xff\xfe message\n", b"J\xfcrg <j@x> %d +0000")
    one(b"4\n", b"control \x01\x02\x1b[31m characters\x07\n")
    one(b"5\n", b"several\n\nparagraphs\n\n  indented\n\n\n", b" <> %d +1400")
    one(b"6\n", b"wide " + b"w" * 5000 + b"\n")
    one(b"7\n", b".\n" + b"a" * 40 + b"\ndiff --git a/x b/x\n")
    one(b"8\n", "日本語\n".encode("euc-jp"), encoding=b"no-such-encoding")


def _odd_merges(made: Torture) -> None:
    base = made.commit(b"before the branches\n", [write(b"mm", BODY)])
    left = made.commit(b"left\n", [write(b"mm", BODY.replace(b"line 1\n", b"ONE\n"))], [base], b"left")
    right = made.commit(b"right\n", [write(b"mm", BODY.replace(b"line 30\n", b"THIRTY\n"))], [base], b"right")
    both = BODY.replace(b"line 1\n", b"ONE\n").replace(b"line 30\n", b"THIRTY\n")
    merge = made.commit(b"merge\n", [write(b"mm", both)], [left, right])
    evil = made.commit(b"evil merge\n", [write(b"mm", b"evil\n")], [merge, right])
    orphan = made.commit(b"second root\n", [write(b"orphan", b"o\n")], branch=b"orphan", root=True)
    empty = made.commit(b"empty root\n", branch=b"nothing", root=True)
    made.commit(b"octopus\n", [], [evil, orphan, empty])
    made.commit(b"after the octopus\n", [write(b"mm", b"good\n")])
