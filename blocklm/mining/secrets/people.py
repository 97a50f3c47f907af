"""Recognises mail addresses and names by the text around them: `a@b.rs` is an address in quotes and code elsewhere."""

import re

from blocklm.mining.secrets.pattern import always, pattern

ADDRESS = r"[A-Za-z0-9_][\w.+-]{0,63}@(?:[A-Za-z0-9][A-Za-z0-9-]{0,62}\.){1,6}(?:[A-Za-z]{2,24}|xn--[\w-]{2,30})"
# RFC 2606 reserves names for documentation, and `git@` logs into a forge: neither is a person.
NO_PERSON = re.compile(
    rb"(?:git|no-?reply)@|@(?:[\w-]+\.)*(?:example|test|invalid|localhost)(?:\.\w+)*$", re.IGNORECASE
)
# Versions (`lodash@4.17.x`), sizes (`icon@2x.png`) and Kotlin's labels (`this@Fragment.context`), whatever stands
# around.
NO_ADDRESS = re.compile(
    rb"@\d+\.\d|@\d+x?\.(?!com$|net$|org$|cn$)|^(?:this|super|self|return|break|continue)@|@(?:latest|next)\."
    rb"|\.(?:js|ts|cs|hs|kt|go|rb|vb|db|gz|xz|rc|ko|ld|lo|[jt]sx|[cm]js|png|jpe?g|gif|svg|webp|bmp|tiff?|pdf|s?css|html?|json|ya?ml"
    rb"|toml|xml|txt|csv|log|conf|cfg|ini|lock|java|scala|swift|dart|hpp|cpp|patch|diff|service|target|socket|timer|mount)$"
)
# Top-level domains that make an address certain even without quotes. Those that are also file extensions are left out:
# `a@b.rs` and `x@y.py` are code.
PLAIN = re.compile(
    rb"\.(?:com|org|net|edu|gov|mil|int|info|biz|dev|app|name|tech|cloud|email|xyz|online|"
    rb"(?!rs|py|md|sh|so|pl|cc|ps|vi|ml|mm|tf|tt|st|lu|mk|la|id|in)[a-z]{2})$",
    re.IGNORECASE,
)
# Words before and after an address.
WORDS_BEFORE = re.compile(
    rb"(?:author(?!i)|e-?mail|maintain|contact|copyright|\(c\)|\xc2\xa9|committer|packager|reporter)[^@]{0,60}$"
    rb"|mailto:$|<$",
    re.IGNORECASE,
)
WORDS_AFTER = re.compile(rb"[>)\]]?,?\s{0,2}\(?(?:author(?!i)|e-?mail|maintainer|contact)", re.IGNORECASE)
# A product of matrices (`x@model.net`): two identifiers, an attribute, and an operator beside them, or a letter before.
PRODUCT = re.compile(
    rb"[A-Za-z_]\w*@[A-Za-z_]\w*\.(?P<attribute>name|net|info|int|app|dev|email|online|cloud|re|im|mu)"
)
OPERATOR_BEFORE = re.compile(rb"(?:\s[-+*/%|&=]|[-+*/%:<>=!]=|[=-]>|[+*/%|&@]|\w[(\[]|\b(?:return|yield|assert))\s*$")
OPERATOR_AFTER = re.compile(rb"\s*[-+*/%|&=\]}]|\)\s*[-+*/.]")
AROUND = 80  # bytes of the line on either side that are examined


def is_address(match: re.Match[bytes]) -> bool:
    """Whether a match of `ADDRESS` is a mail address, of a person or of nobody in particular."""
    text, address = match.string, match["secret"]
    start, end = match.span("secret")
    line_end = text.find(b"\n", end, end + AROUND)
    before = text[max(text.rfind(b"\n", 0, start) + 1, start - AROUND) : start]
    after = text[end : end + AROUND if line_end < 0 else line_end]
    if NO_ADDRESS.search(address):
        return False
    if WORDS_BEFORE.search(before) or WORDS_AFTER.match(after):
        return True
    if before.endswith(b":"):
        return False
    return _is_quoted(before, after) or (bool(PLAIN.search(address)) and not _is_product(address, before, after))


def _is_quoted(before: bytes, after: bytes) -> bool:
    """Whether quotes are on both sides: directly beside it, or double quotes further away."""
    direct = before[-1:] in (b'"', b"'") and before[-1:] == after[:1]
    return direct or (before.count(b'"') % 2 == 1 and b'"' in after)


def _is_product(address: bytes, before: bytes, after: bytes) -> bool:
    product = PRODUCT.fullmatch(address)
    if product is None:
        return False
    alone = product["attribute"] == b"name" or address[1:2] == b"@"
    return alone or bool(OPERATOR_BEFORE.search(before) or OPERATOR_AFTER.match(after))


def _is_person(match: re.Match[bytes]) -> bool:
    return not NO_PERSON.search(match["secret"]) and is_address(match)


MAIL = pattern(
    "email",
    "@",
    rf"(?:(?<![\w.+/:@-])|(?<=\w:))(?P<secret>{ADDRESS})(?![\w@(\[-]|\.\w)",
    _is_person,
    "EMAIL",
)
BRACKETED_MAIL = pattern(  # brackets leave no doubt, whatever the domain ends with
    "email",
    "@",
    r"(?<=<)(?P<secret>[A-Za-z0-9_][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,6}[A-Za-z]{2,24})(?=>)",
    lambda match: not NO_PERSON.search(match["secret"]),
    "EMAIL",
)
NAMED_MAIL = pattern(
    "name",
    "@",
    r"(?<![\w.])(?P<secret>[A-Z\xc3][\w.'\x80-\xff-]{1,30}(?: [A-Z\xc3][\w.'\x80-\xff-]{0,30}){1,3}) ?<[\w.+-]{1,64}@",
    always,
    "NAME",
)
PEOPLE = (MAIL, BRACKETED_MAIL, NAMED_MAIL)
