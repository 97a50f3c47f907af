"""Commit messages: cleaned of people, and told apart by whether they say anything about the change."""

import re

from blocklm.mining.secrets.people import ADDRESS, is_address

TRAILER = re.compile(r"^([a-z-]{1,40}-by|author|from|change-id|git-svn-id|cc):.*$", re.MULTILINE | re.IGNORECASE)
# With the space before it, which would stay twice. Bounded repeats: a message of a mined repository may be a megabyte
# without a space.
MAIL = re.compile(rf" ?(?:(?<![\w.+/:@-])|(?<=\w:))(?P<secret>{ADDRESS})(?![\w@(\[-]|\.\w)".encode())
BRACKETED = re.compile(r" ?<[^\s<>@]{1,64}@[^\s<>@]{1,200}>")
LOGIN = re.compile(rb"git@", re.IGNORECASE)
# A handle is meant only where somebody is thanked, named or asked: `@dataclass`, `@types/node`, `@media` and `x@4.17` are code.
HANDLE = r"@[A-Za-z0-9](?:[A-Za-z0-9]|-(?=[A-Za-z0-9])){0,38}(?![\w/(@.-]*[/(@_]|\.[A-Za-z]|\w)"
DEEDS = (
    "report|suggest|request|review|approv|found|spott|notic|author|contribut|written|point|discover|propos|rais|fil|submitt|test"
    "|sponsor|diagnos|debugg|ask|complain"
)
MENTION = re.compile(
    r"(?P<before>\b(?:thanks?(?: you)?(?: (?:also|again|much|very|so|a lot|goes))*(?: to)?|thx(?: to)?|kudos(?: to)?|props to"
    r"|credits?(?: goes)?(?: to)?:?|hat tip(?: to)?|h/t|shout-?out to|courtesy of|ping|/?cc:?|co-author(?:ed by|s?:)?"
    rf"|(?:{DEEDS})\w{{0,4}}(?: out)? by|by(?= {HANDLE} in (?:#|https?://))))"
    rf"(?P<handles>:? {HANDLE}(?:(?:, and |,? and |,? & |, ?| ){HANDLE})*)",
    re.IGNORECASE,
)
SPEAKER = re.compile(
    rf" ?(?<!\w){HANDLE}(?= (?:reported|suggested|noticed|pointed out|asked|complained|proposed|mentioned|spotted|wrote|said)\b)"
    rf"|\[{HANDLE}\]\(https://git(?:hub|lab)\.com/[\w-]+/?\)"
)
# What follows an at sign in languages and style sheets, even after "thanks to".
CODE_WORDS = re.compile(
    r"@(?:dataclass(?:es)?|property|(?:static|class|abstract)method|cached?|wraps|override|overload|final|deprecated|params?|returns?"
    r"|throws|see|since|link|todo|internal|private|public|media|import|supports|keyframes|font-face|layer|container|page|apply|mixin"
    r"|include|extend|use|forward|charset|tailwind|test|before|after|autowired|bean|inject|component|injectable|input|output|module"
    r"|entity|column|service|controller|nullable|nonnull|notnull|generated|data|builder|value|getter|setter|main|mainactor|objc"
    r"|escaping|available|published|state|binding|environment|observable|action|computed|pytest|fixture|click|app|router|transactional"
    r"|async|await|types|angular|babel|vue|next|latest|v?\d[\w.-]*)$",
    re.IGNORECASE,
)
BLANK_LINES = re.compile(r"\n{3,}")

MIN_WORDS, MIN_CHARS, MAX_CHARS = 3, 10, 576
# What a subject carries besides its words: pull request, CI directive, area, link.
ORNAMENT = re.compile(r"\(#\d+\)|\[[\w -]{1,20}\]|https?://\S+|^[\w/,-]{1,30}(\([\w/,. -]{1,40}\))?!?:")
EMPTY_WORDS = re.compile(
    r"(merge\b|wip\b|(local|minor|some|more|small|misc|various) (changes?|fix(es)?|updates?|tweaks?|edits?)|"
    r"(update|fix|bump|add|change)s? (files?|stuff|things?|code|readme\S*)$|initial commit|first commit|v?\d+(\.\d+)+)",
    re.IGNORECASE,
)


def clean_message(message: str, author_name: str = "") -> str:
    """The message without people: trailers below the subject, mail addresses, mentions, and the author's own full name."""
    if ":" in message:
        subject, line_end, body = message.partition("\n")
        message = subject + line_end + TRAILER.sub("", body)
    if "@" in message:
        message = _without_mentions(_without_addresses(message))
    if " " in author_name:  # a single word may be any word
        message = message.replace(author_name, "<NAME>")
    return BLANK_LINES.sub("\n\n", message).strip()


def _without_addresses(message: str) -> str:
    """Of addresses in brackets all go; `git@` logs into a forge and is none."""
    message = BRACKETED.sub("", message)
    return MAIL.sub(
        lambda match: match[0] if LOGIN.match(match["secret"]) or not is_address(match) else b"", message.encode()
    ).decode()


def _without_mentions(message: str) -> str:
    """Handles of people go, with the space before them."""
    found = MENTION.sub(lambda match: match["before"] + _code_in(match["handles"]), message)
    return SPEAKER.sub(lambda match: match[0] if CODE_WORDS.match(match[0].strip(" [")) else "", found)


def _code_in(handles: str) -> str:
    """The handles if one of them is a word of code, or else nothing."""
    return handles if any(CODE_WORDS.match(f"@{name}") for name in re.findall(r"@([\w-]+)", handles)) else ""


def says_something(message: str) -> bool:
    """Whether the subject describes its change: three words, ten characters, and none of the usual empty phrases.

    The rule keeps 92 to 97 % of the messages of well-kept repositories; it asks for no verb, capital or language.
    """
    subject = ORNAMENT.sub("", message.partition("\n")[0]).strip()
    enough = len(subject.split()) >= MIN_WORDS and MIN_CHARS <= len(subject) <= MAX_CHARS
    return enough and not EMPTY_WORDS.match(subject)
