"""Patterns of secrets with a telling name before them: the name, a little punctuation or a tag, and a literal value.

The value is in quotes, between tags, or a word that looks random; it is never a type, a call or an identifier
(`token: Token`, `password: String`, `password = read()`).
"""

from blocklm.mining.secrets.pattern import (
    Pattern,
    has_random_value,
    is_literal_password,
    is_no_stand_in,
    is_password,
    is_strong_literal,
    is_strong_password,
    pattern,
)

PASSWORD = (
    r"(?i:passw(?:or)?d|passwd|pwd|pswd|passphrase|passcode|securestring|requirepass|masterauth|(?:bind|root|user)pw)"
)
# `pass` alone is a word of prose and of Python, so only a strong value beside it is a secret.
PASS = r"(?:(?<![A-Za-z])(?:pass|Pass|PASS)(?![A-Za-z])|[a-z]Pass(?![a-z]))"
TOKEN = (
    r"(?i:secret|token(?!iz)|(?:api|app|access|account|private|signing|encryption|master|storage|shared|consumer|license)[_.-]?key"
    r"|credential|auth|passphrase|webhook)"
)
PASSWORD_WORDS, TOKEN_WORDS = (
    "passw|pwd|pswd|passphrase|passcode|securestring|requirepass|masterauth|bindpw|rootpw|userpw",
    "secret|token|key|credential|auth|passphrase|webhook",
)
PASS_WORDS = "pass\"|pass'|pass`|pass=|pass:|pass =|pass :|pass,|pass["
# How a value is given to a name: `x = "v"`, `"x": "v"`, `x: &str = "v"`, `x := 'v'`, `x => "v"`, `x("v")`.
GIVEN = r"""(?:\\?["'`]?(?:\s{0,3}:\s{0,2}[&\w<>'\[\]. ]{1,30}?)?\s{0,4}(?::=|=>|[:=])\s{0,4}|\(\s{0,2})"""
# `x['name'] = "v"`, `name[] = "v"`, `name == "v"`, `NAME "v"`, `name by 'v'`, `name -String "v"`.
BESIDE = (
    r"""(?:(?:\[\w{0,6})?["'`]?\s?[\])}]{1,3}\s{0,4}(?:[:=!]?={1,3}|=>|[:,])|(?:["'`]?[\])]{1,2})?\s{0,2}(?:(?:\|\||\?\?|[?+:])=?|\?:|or\b)|\s{0,2}[=!]={1,2}|\s(?:\s{0,3}(?:by|BY|as|AS)\b)?"""
    r"""|\s{1,2}-\w{1,12}\s)\s{0,20}"""
)
# `f("name", "v")`, `"name" "v"`, `name, 'v'`.
NEXT = r"""["'`]?\s{0,2}(?:,|["'`])\s{0,8}"""
# `<x name="name" value="v">`
ATTRIBUTE = (
    r"""["'](?:\s{1,4}[\w:.-]{1,20}=["'][^"'<>\n]{0,40}["']){0,4}?\s{1,4}(?i:value|content|default(?:value)?)\s?=\s?"""
)
OPEN, CLOSE = r"""(?:[@$LNbruf&]|[bru]?[rf])?["'\\]{0,3}(?P<quote>["'`])""", r"""\\?(?P=quote)"""
# `<name>v</name>`, `<x key="name" type="t">v</x>`
TAG = r"""["']?(?:\s[^<>\n]{0,60})?>(?:\s{0,4}<(?i:value|string)>)?(?:<!\[CDATA\[)?"""
CLOSING_TAG = r"(?:\]\]>)?</"
# `- name: NAME` and `value: v` on the next line; `<key>NAME</key>` and `<string>v</string>` on the same or the next.
BELOW = r"""["']?,?[ \t]{0,4}\{?[ \t]{0,2}\r?\n[ +-]?[ \t]{0,60}["']?(?:value|default|content|Value)["']?\s{0,2}[:=]\s{0,4}(?P<quote>["']?)"""
ENTRY = r"</\w{1,20}>\s{0,4}(?:\n[ +-]?)?\s{0,60}<(?:string|value|data)>"
# `ENV NAME v`, `setenv NAME v`, `--name v`, `--name=v`
COMMAND = r"(?:(?:^|(?<=[\s+-]))(?i:env|arg|setenvx?|setx?|export)\s{1,4}|(?<![\w-])--?)[\w.-]{0,40}?"
# A word, which ends where a URL's next parameter begins.
BARE, BARE_END = r"(?:(?!&[\w-]{1,20}=)[^\s\"'`#;,()\[\]{}<>\\])", r"(?=[\s\"'`;,&)\]}<>\\]|$)"


def _quoted(form: str, name: str, value: str) -> str:
    return rf"{name}\w{{0,20}}{form}{OPEN}(?P<secret>{value}){CLOSE}"


def _between_tags(name: str, value: str) -> str:
    return rf"{name}\w{{0,20}}(?:{TAG}|{ENTRY})(?P<secret>{value}?){CLOSING_TAG}"


def _below(name: str, value: str) -> str:
    return rf"{name}\w{{0,20}}{BELOW}(?P<secret>{value})(?P=quote){BARE_END}"


QUOTED_PASSWORD, LONG = r"[^\"'`\s\\]{8,100}", r"[\w+/=.~-]{16,200}"
PASSWORDS: tuple[Pattern, ...] = tuple(
    pattern("password", words, regex, accepts, "PASSWORD", lines)
    for words, regex, accepts, lines in (
        (PASSWORD_WORDS, _quoted(GIVEN, PASSWORD, r"[^\"'`\s]{8,100}?"), is_password, 1),
        (PASSWORD_WORDS, _quoted(f"(?:{BESIDE}|{ATTRIBUTE})", PASSWORD, r"[^\"'`\s<>\\]{6,100}"), is_literal_password, 1),
        (PASSWORD_WORDS, _quoted(NEXT, PASSWORD, QUOTED_PASSWORD), is_strong_literal, 1),
        (PASSWORD_WORDS, _between_tags(PASSWORD, r"[^\s<>\"'`]{6,100}"), is_literal_password, 2),
        (PASSWORD_WORDS, _below(PASSWORD, rf"{BARE}{{6,100}}"), is_literal_password, 2),
        (PASS_WORDS, _quoted(f"(?:{GIVEN}|{NEXT})", PASS, QUOTED_PASSWORD), is_strong_literal, 1),
        (PASS_WORDS, rf"{PASS}\w{{0,20}}\s{{0,4}}[:=]\s{{0,4}}(?P<secret>{BARE}{{8,100}}){BARE_END}", is_strong_literal, 1),
        ("identified", rf"(?i:identified\s{{1,4}}(?:with\s{{1,4}}\S{{1,40}}\s{{1,4}})?(?:by|as)\s{{1,4}}(?:password\s{{1,4}})?){OPEN}(?P<secret>[^'\"`\s]{{6,100}}){CLOSE}", is_literal_password, 1),
        ("password for", rf"(?i:password\s{{1,4}}for\s{{1,4}}[^\s=]{{1,80}}\s{{0,2}}=\s{{0,2}}(?:password\()?){OPEN}(?P<secret>[^'\"`\s]{{6,100}}){CLOSE}", is_literal_password, 1),
        # as in YAML and .ini files, where values stand without quotes
        (PASSWORD_WORDS, rf"{PASSWORD}(?:[\w.-]{{0,20}}\s{{0,4}}[?+:]?[:=]\s{{0,4}}|\s{{1,4}})(?P<secret>{BARE}{{8,100}}){BARE_END}", is_strong_password, 1),
        (PASSWORD_WORDS + "|--pass|_pass |pass=", rf"{COMMAND}(?:{PASSWORD}|{PASS})[\w.-]{{0,20}}(?:\s{{1,4}}|=)(?P<secret>{BARE}{{8,100}}){BARE_END}", is_strong_literal, 1),
        (" -u |--user", r"\s(?:-u|--user)[ =][\"']?[\w.@%-]{1,60}:(?P<secret>[^\s\"'`:@]{6,100})(?=[\s\"'`]|$)", is_strong_literal, 1),
        ("auth", r"(?i:auth)\s{0,2}[=(:]\s{0,2}\(?\s{0,2}[\"'][^\"'\n]{1,60}[\"']\s{0,2},\s{0,2}[\"'](?P<secret>[^\"'\s]{8,100})[\"']", is_password, 1),
        ("://", r"(?<=[A-Za-z0-9])://[^\s:/@\"'`<>{}$]{0,60}:(?P<secret>[^\s:/@\"'`<>{}$]{3,100})@(?!sha(?:256|512):)[\w\[]", is_no_stand_in, 1),
        # one that holds `@` or `/` itself, but is no port
        ("://", r"(?<=[A-Za-z0-9])://[^\s:/@\"'`<>{}$]{0,60}:(?!\d{1,5}/)(?P<secret>[^\s\"'`<>{}$]{6,100})@[\w.-]{1,100}(?=[:/?\s\"'`)\]<>]|$)", is_strong_password, 1),
    )
)  # fmt: skip
TOKENS: tuple[Pattern, ...] = tuple(
    pattern("assigned", words, regex, has_random_value, lines=lines)
    for words, regex, lines in (
        (TOKEN_WORDS, _quoted(f"(?:{GIVEN}|{BESIDE}|{NEXT}|{ATTRIBUTE})", TOKEN, LONG), 1),
        (TOKEN_WORDS, _between_tags(TOKEN, LONG), 2),
        (TOKEN_WORDS, _below(TOKEN, LONG), 2),
        (TOKEN_WORDS, rf"{COMMAND}{TOKEN}[\w.-]{{0,20}}(?:\s{{1,4}}|=)(?P<secret>{LONG}){BARE_END}", 1),
        # as in shells, YAML and .ini files, where values stand without quotes
        ("secret|token|key|passw", r"(?i:secret|token(?!iz)|key|passw(?:or)?d|passwd)[\w-]{0,10}\s{0,2}[?+:]?[:=]\s{0,4}(?P<secret>(?:(?!&[\w-]{1,20}=)[\w+/=.~!@#^&*-]){16,200})(?=[\s,;&\"'`)\]}<>]|$)", 1),
        ("sig=|signature=|jwt=|session", r"[?&](?i:[\w-]{0,20}signature|sig|jwt|session(?:_?id)?)=(?P<secret>[\w+/=.~%-]{16,500})", 1),
        ("://", r"(?<=[A-Za-z0-9])://(?P<secret>[\w.~-]{16,255})(?::x-oauth-basic)?@[\w\[]", 1),
    )
)  # fmt: skip
NAMED: tuple[Pattern, ...] = (
    *PASSWORDS,
    *TOKENS,
    pattern(
        "connection_string",
        "passw|pwd",
        r"(?i:;\s{0,2}(?:password|pwd))=(?P<secret>[^;\"'\s]{6,100})(?=[;\"'])",
        is_no_stand_in,
        "PASSWORD",
    ),
    pattern(
        "authorization",
        "bearer|basic|authorization",
        r"(?i:bearer|basic|authorization[\"']?\s{0,2}[:,=]\s{0,2}[\"']?token)\s{1,2}(?P<secret>[\w+/.~-]{16,400}={0,2})",
        has_random_value,
    ),
)
