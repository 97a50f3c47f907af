"""Replaces people's handles and addresses in commit messages, but no decorators, packages, at-rules or versions."""

import re

from blocklm.mining.secrets.people import ADDRESS, is_address

# All repeats are bounded: a message of a mined repository may be a megabyte without a space.
MAIL = re.compile(rf"(?:(?<![\w.+/:@-])|(?<=\w:))(?P<secret>{ADDRESS})(?![\w@(\[-]|\.\w)".encode())
NAME = r"[^\W\d_a-z][\w.'-]{1,30}(?: [^\W\d_a-z][\w.'-]{0,30}){1,2} ?"
BRACKETED_MAIL = re.compile(rf"(?P<name>\b{NAME})?<[^\s<>@]{{1,64}}@[^\s<>@]{{1,200}}>")
LOGIN = re.compile(rb"git@", re.IGNORECASE)  # the account of a forge
# Handles as forges allow them, without `_`, and not followed by a part of a path, call or version.
HANDLE = re.compile(r"(?<![\w@/.`])@(?P<name>[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38})(?![\w`/(@-]|\.\w)")
NEAR = 60  # characters before a handle that are searched
# A handle counts as a person's only beside words for thanks, for a contribution, or for something that a person says.
DEEDS = (
    "report|suggest|request|review|approv|found|spott|notic|author|contribut|writ|point|discover|propos|rais|fil|submitt|sponsor"
    "|diagnos|debugg|ask|complain"
)
WORDS_BEFORE = re.compile(
    r"(?:\bthanks?(?: you)?(?: (?:also|again|much|very|so|a lot|goes))*(?: to)?|\bthx(?: to)?|\bkudos(?: to)?|\bprops to"
    r"|\bcredits?(?: goes)?(?: to)?|\bhat tip(?: to)?|\bh/t|\bshout-?out to|\bcourtesy of|\bping|/?\bcc|\bco-author(?:ed by|s?)?"
    rf"|\b(?:{DEEDS})\w{{0,4}}(?: out)? by|\b(?:spoke|talked|discuss\w{{0,4}}|conversation|chat(?:ted)?) (?:with|to)):?\s$",
    re.IGNORECASE,
)
NAMED_BEFORE = re.compile(rf"{NAME}\($")
WORDS_AFTER = re.compile(
    r" (?:report|suggest|notic|pointed out|asked|complained|propos|mentioned|spotted|wrote|said|filed)\w{0,4}\b"
    r"| in (?:#\d|https?://)|\]\(https://git(?:hub|lab)\.com/"
)
BETWEEN = re.compile(r",? (?:and |& )?")
# Words after an at sign in programming languages and style sheets, which are no handles even after "thanks to".
CODE_WORDS = re.compile(
    r"(?:dataclass(?:es)?|property|(?:static|class|abstract)method|cached?|wraps|override|overload|final|deprecated|params?|returns?"
    r"|throws|see|since|link|todo|internal|private|public|media|import|supports|keyframes|font-face|layer|container|page|apply|mixin"
    r"|include|extend|use|forward|charset|tailwind|test|before|after|autowired|bean|inject|component|injectable|input|output|module"
    r"|entity|column|service|controller|nullable|nonnull|notnull|generated|data|builder|value|getter|setter|main|mainactor|objc"
    r"|escaping|available|published|state|binding|environment|observable|action|computed|pytest|fixture|click|app|router|transactional"
    r"|async|await|types|angular|babel|vue|next|latest|master|v?\d[\w.-]*)",
    re.IGNORECASE,
)


def without_addresses(message: str) -> str:
    """Replace every mail address, and the name before an address in angle brackets, by a placeholder."""
    message = BRACKETED_MAIL.sub(lambda match: "<NAME> <EMAIL>" if match["name"] else "<EMAIL>", message)
    coded = MAIL.sub(
        lambda match: match[0] if LOGIN.match(match["secret"]) or not is_address(match) else b"<EMAIL>",
        message.encode(),
    )
    return coded.decode()


def without_mentions(message: str) -> str:
    """Replace every handle that can only be a person's by a placeholder."""
    pieces, copied, person_end = list[str](), 0, -1
    for match in HANDLE.finditer(message):
        before = message[max(0, match.start() - NEAR) : match.start()]
        in_list = person_end >= 0 and BETWEEN.fullmatch(message, person_end, match.start())
        is_person = in_list or WORDS_BEFORE.search(before) or NAMED_BEFORE.search(before)
        if (is_person or WORDS_AFTER.match(message, match.end())) and not CODE_WORDS.fullmatch(match["name"]):
            pieces += [message[copied : match.start()], "<NAME>"]
            copied = person_end = match.end()
    return "".join([*pieces, message[copied:]])
