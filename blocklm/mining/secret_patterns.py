"""What credentials and mail addresses look like: one named pattern per kind, each with a word that it cannot lack.

The words make it fast: a pattern is tried only on lines that hold its word. Formats are those that the issuers document;
the guards against false alarms follow BigCode's pipeline (`pii/utils/keys_detection.py`).
"""

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

Guard = Callable[[re.Match[bytes]], bool]


@dataclass(frozen=True, slots=True)
class Pattern:
    """One kind of secret; group `secret` is what to hide, and `accepts` spares what merely looks like it."""

    kind: str
    words: tuple[bytes, ...]
    regex: re.Pattern[bytes]
    accepts: Guard
    placeholder: bytes


# What people write where a secret belongs.
STAND_IN = re.compile(
    rb"example|sample|dummy|placeholder|change.?me|your[_-]?|redacted|fake|x{4}|\*{3}|\.{3}|1234567|abcdefg|0{8}"
    rb"|^<.*>$|^\{.*\}$|^\$\w+$|^@\w+:|\$[({]|\{\{|%\(|%[sdv]$",  # what a template fills in
    re.IGNORECASE,
)
STAND_IN_WORDS = {b"pass", b"password", b"passwd", b"pwd", b"secret", b"token", b"key"}
TEST_WORD = re.compile(
    rb"test|foo|bar|todo|none|null|mock|lorem|secret|token|passw|string|value|undefined", re.IGNORECASE
)
MIN_ENTROPY = 3.0  # bits per character; words and repetitions lie below, random strings of sixteen characters above
MIN_RANDOM_CHARS, MIN_RANDOM_RUN = 16, 12
MIN_TURNS, PASSWORD_TURNS, SURE_TURNS = 0.25, 0.35, 0.4
RUNS = re.compile(rb"[A-Za-z0-9+=]+")


def is_stand_in(text: bytes) -> bool:
    """Whether it holds the place of a secret instead of being one."""
    return bool(STAND_IN.search(text)) or text.lower() in STAND_IN_WORDS


def _always(_: re.Match[bytes]) -> bool:
    return True


def _is_no_stand_in(match: re.Match[bytes]) -> bool:
    return not is_stand_in(match["secret"])


def is_random(text: bytes) -> bool:
    """Whether the text looks drawn at random: long, of high entropy, and letters and digits in short turns.

    It is judged by its longest run without punctuation: names of models, files and versions are many short ones.
    """
    run = max(RUNS.findall(text), key=len, default=b"")
    if len(text) < MIN_RANDOM_CHARS or len(run) < MIN_RANDOM_RUN or STAND_IN.search(text) or TEST_WORD.search(text):
        return False
    digits, turns = _digits(run), _turns(run)
    drawn = (digits >= 2 and turns >= MIN_TURNS) or (digits == 1 and turns >= SURE_TURNS)
    entropy = -sum(n / len(run) * math.log2(n / len(run)) for n in Counter(run).values())
    return drawn and entropy >= MIN_ENTROPY


def _digits(text: bytes) -> int:
    return sum(48 <= byte < 58 for byte in text)


def _turns(text: bytes) -> float:
    """How often neighbours are of different classes: 0.6 at random, 0.3 in CamelCase2Names."""
    return sum(one != other for one, other in pairwise(map(_class, text))) / max(1, len(text))


def _class(byte: int) -> int:
    return (48 <= byte < 58) + 2 * (65 <= byte < 91) + 3 * (97 <= byte < 123)


def _has_random_value(match: re.Match[bytes]) -> bool:
    return is_random(match["secret"])


def _is_password(match: re.Match[bytes]) -> bool:
    """A value with letters and others, neither a stand-in nor a word of the code around it."""
    value = match["secret"]
    mixed = re.search(rb"[A-Za-z]", value) and re.search(rb"[^A-Za-z_. /:-]", value)
    return bool(mixed) and not STAND_IN.search(value) and not re.search(rb"[(){}\[\]]|://|\\[nu]", value)


def _is_strong_password(match: re.Match[bytes]) -> bool:
    """A value that no program would have for a name: drawn at random, or with digits and marks of which names have none."""
    value = match["secret"]
    if is_stand_in(value) or not _digits(value) or not re.search(rb"[A-Za-z]", value):
        return False
    return bool(re.search(rb"[!@#$%^&*+?~]", value)) or _turns(value) >= PASSWORD_TURNS


def _pattern(kind: str, word: str, regex: str, accepts: Guard = _is_no_stand_in, hide: str = "KEY") -> Pattern:
    words = tuple(part.encode() for part in word.split("|"))
    return Pattern(kind, words, re.compile(regex.encode()), accepts, f"<{hide}>".encode())


# How a value is given to a name: `x = "v"`, `"x": "v"`, `x: &str = "v"`, `x := 'v'`, `x => "v"`.
GIVEN = r"""["'`]?(?:\s{0,3}:\s{0,2}[&\w<>'\[\]. ]{1,30}?)?\s{0,4}(?::=|=>|[:=])\s{0,4}(?:[bru]|&)?(?P<quote>["'`])"""
PATTERNS: tuple[Pattern, ...] = (
    _pattern(  # a key on one line, its line ends escaped
        "private_key",
        "private key",
        r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----(?P<secret>(?>(?:\\[nr]|[\"'`,;+ ])*+[A-Za-z0-9+/=]++)++)",
        _always,
    ),
    _pattern("aws_id", "akia|asia", r"(?<![A-Za-z0-9/+])(?P<secret>(?:AKIA|ASIA)[A-Z2-7]{16})(?![A-Za-z0-9])"),
    _pattern(
        "aws_secret",
        "aws|secret",
        r"(?i:aws.{0,20}|secret.{0,3}(?:access.{0,3})?key.{0,20}?)[\"'=:\s]{1,5}(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        _has_random_value,
    ),
    _pattern("github", "ghp_|gho_|ghs_|ghu_|ghr_", r"(?<!\w)(?P<secret>gh[opsur]_[A-Za-z0-9]{36,255})"),
    _pattern("github", "github_pat_", r"(?<!\w)(?P<secret>github_pat_\w{22,255})"),
    _pattern(
        "gitlab",
        "glpat-|gldt-|glrt-|glcbt-|glptt-|glft-|glsoat-|glagent-",
        r"(?<!\w)(?P<secret>gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent)-[\w-]{20,64})",
    ),
    _pattern("slack", "xox|xapp-", r"(?<!\w)(?P<secret>(?:xox[abeoprs]|xapp)-[\w-]{20,200})"),
    _pattern("slack", "hooks.slack.com", r"hooks\.slack\.com/(?:services|workflows)/(?P<secret>[\w/+-]{20,80})"),
    _pattern("discord", "/webhooks/", r"discord(?:app)?\.com/api/webhooks/(?P<secret>\d{17,20}/[\w-]{60,80})"),
    _pattern("telegram", ":aa", r"(?<!\w)(?P<secret>\d{8,10}:AA[\w-]{33})(?![\w-])"),
    _pattern(
        "stripe", "_live_|_test_|whsec_", r"(?<!\w)(?P<secret>(?:[rs]k_(?:live|test)_|whsec_)[A-Za-z0-9]{20,128})"
    ),
    _pattern("google", "aiza", r"(?<!\w)(?P<secret>AIza[\w-]{35})(?![\w-])"),
    _pattern("google", "ya29.|gocspx-", r"(?<!\w)(?P<secret>ya29\.[\w-]{30,300}|GOCSPX-[\w-]{28})"),
    _pattern(
        "openai", "sk-", r"(?<![\w-])(?P<secret>sk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,200})", _has_random_value
    ),
    _pattern("anthropic", "sk-ant-", r"(?<![\w-])(?P<secret>sk-ant-[\w-]{20,200})"),
    _pattern("huggingface", "hf_|api_org_", r"(?<!\w)(?P<secret>(?:hf_|api_org_)[A-Za-z]{34,40})(?!\w)"),
    _pattern("npm", "npm_", r"(?<!\w)(?P<secret>npm_[A-Za-z0-9]{36})(?!\w)"),
    _pattern("pypi", "pypi-ageichlwas", r"(?P<secret>pypi-AgEIcHlwaS[\w-]{40,250})"),
    _pattern("crates.io", "cio", r"(?<!\w)(?P<secret>cio[A-Za-z0-9]{32,40})(?!\w)", _has_random_value),
    _pattern("sendgrid", "sg.", r"(?<!\w)(?P<secret>SG\.[\w-]{20,24}\.[\w-]{39,50})"),
    _pattern("mailgun", "key-", r"(?<![\w-])(?P<secret>key-[0-9a-f]{32})(?!\w)"),
    _pattern(
        "azure", "accountkey=|sharedaccesskey=", r"(?:Account|SharedAccess)Key=(?P<secret>[A-Za-z0-9+/]{40,90}={0,2})"
    ),
    _pattern("digitalocean", "_v1_", r"(?<!\w)(?P<secret>do[opr]_v1_[0-9a-f]{64})"),
    _pattern("databricks", "dapi", r"(?<!\w)(?P<secret>dapi[0-9a-f]{32})(?!\w)"),
    _pattern("shopify", "shp", r"(?<!\w)(?P<secret>shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32})"),
    _pattern("docker", "dckr_", r"(?<!\w)(?P<secret>dckr_(?:pat|oat)_[\w-]{20,64})"),
    _pattern("age", "age-secret-key-", r"(?P<secret>AGE-SECRET-KEY-1[0-9A-Z]{50,64})"),
    _pattern("jwt", "eyj", r"(?<![\w-])(?P<secret>eyJ[\w-]{10,2000}\.eyJ[\w-]{10,2000}\.[\w-]{10,1000})", _always),
    _pattern(
        "url_password",
        "://",
        r"(?i:[a-z][a-z0-9+.-]{1,20})://[^\s:/@\"'`<>{}$]{0,60}:(?P<secret>[^\s:/@\"'`<>{}$]{3,100})@[\w\[]",
        _is_no_stand_in,
        "PASSWORD",
    ),
    _pattern(
        "password",
        "passw|pwd",
        rf"(?i:passw(?:or)?d|passwd|pwd)\w{{0,20}}(?:{GIVEN}|\(\s{{0,2}}(?P<bracket>[\"'`]))(?P<secret>[^\"'`\s]{{8,100}})"
        r"(?:(?P=quote)|(?P=bracket))",
        _is_password,
        "PASSWORD",
    ),
    _pattern(  # as in YAML and .ini files, where values stand without quotes
        "password",
        "passw|pwd",
        r"(?i:passw(?:or)?d|passwd|pwd)(?:[\w.-]{0,20}\s{0,4}[:=]\s{0,4}|\s{1,4})(?P<secret>[^\s\"'`#;,()\[\]{}<>]{8,100})(?=[\s;]|$)",
        _is_strong_password,
        "PASSWORD",
    ),
    _pattern(
        "connection_string",
        "passw|pwd",
        r"(?i:;\s{0,2}(?:password|pwd))=(?P<secret>[^;\"'\s]{6,100})(?=[;\"'])",
        _is_no_stand_in,
        "PASSWORD",
    ),
    _pattern(
        "password",
        "auth",
        r"(?i:auth)\s{0,2}[=(:]\s{0,2}\(?\s{0,2}[\"'][^\"'\n]{1,60}[\"']\s{0,2},\s{0,2}[\"'](?P<secret>[^\"'\s]{8,100})[\"']",
        _is_password,
        "PASSWORD",
    ),
    _pattern(
        "authorization",
        "bearer|basic",
        r"(?i:bearer|basic)\s{1,2}(?P<secret>[\w+/.~-]{16,400}={0,2})",
        _has_random_value,
    ),
    _pattern(
        "assigned",
        "secret|token|key|credential|auth",
        rf"(?i:secret|token(?!iz)|api[_-]?key|access[_-]?key|private[_-]?key|signing[_-]?key|encryption[_-]?key|credential|auth)"
        rf"\w{{0,20}}(?:{GIVEN}|\(\s{{0,2}}(?P<bracket>[\"'`]))(?P<secret>[\w+/=.~-]{{16,200}})(?:(?P=quote)|(?P=bracket))",
        _has_random_value,
    ),
    _pattern(  # as in shells, YAML and .ini files, where values stand without quotes
        "assigned",
        "secret|token|key|passw",
        r"(?i:secret|token(?!iz)|key|passw(?:or)?d|passwd)[\w-]{0,10}\s{0,2}[:=]\s{0,4}"
        r"(?P<secret>[\w+/=.~!@#^&*-]{16,200})(?=[\s,;]|$)",
        _has_random_value,
    ),
)


# Top-level domains; of those with two letters not the ones that files end with: `a@b.rs` and `x@y.py` are code.
SUFFIXES = (
    r"com|org|net|edu|gov|mil|int|info|biz|dev|app|name|tech|cloud|email|xyz|online|"
    r"(?!rs|py|md|sh|so|pl|cc|ps|cs|vb|hs|ml|kt|js|ts|go|mm|rb|rc|id|db|gz|xz|vi|tf|tt|st|lu|mk|la|ld|lo|ko|in)[a-z]{2}"
)
# RFC 2606 reserves names for documentation, and `git@` logs into a forge: neither is a person.
NO_PERSON = re.compile(
    rb"(?:git|no-?reply)@|@(?:[\w-]+\.)*(?:example|test|invalid|localhost)(?:\.\w+)*$", re.IGNORECASE
)
MAIL = _pattern(
    "email",
    "@",
    rf"(?<![\w.+/:@-])(?P<secret>[A-Za-z0-9_][\w.+-]{{0,63}}@(?:[A-Za-z0-9][A-Za-z0-9-]{{0,62}}\.){{1,6}}(?i:{SUFFIXES}))(?![\w@(-]|\.\w)",
    lambda match: not NO_PERSON.search(match["secret"]),
    "EMAIL",
)
BRACKETED_MAIL = _pattern(  # brackets leave no doubt, whatever the domain ends with
    "email",
    "@",
    r"(?<=<)(?P<secret>[A-Za-z0-9_][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,6}[A-Za-z]{2,24})(?=>)",
    lambda match: not NO_PERSON.search(match["secret"]),
    "EMAIL",
)
NAMED_MAIL = _pattern(
    "name",
    "@",
    r"(?<![\w.])(?P<secret>[A-Z\xc3][\w.'\x80-\xff-]{1,30}(?: [A-Z\xc3][\w.'\x80-\xff-]{0,30}){1,3}) ?<[\w.+-]{1,64}@",
    _always,
    "NAME",
)
PEOPLE = (MAIL, BRACKETED_MAIL, NAMED_MAIL)
