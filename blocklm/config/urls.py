"""Secrets in URLs: refused in a recipe, which is stored, and removed from messages."""

import re

from blocklm.errors import UserError

# User information ends at an `@` before the path. A password may hold a slash, unless it reads like a port.
USER_INFORMATION = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]{0,30})://"
    r"(?P<user>[^\s/?#\"'<>]{0,500}|[^\s/?#:@\"'<>]{0,100}:(?!\d{1,5}/)[^\s\"'<>]{0,500})@(?=[\w\[])",
    re.IGNORECASE,
)
# The same without a scheme, as in `me:password@host/path`.
BARE_PASSWORD = re.compile(r"(?<![^\s'\"])[^\s/:@]{1,100}:[^\s/@]{1,500}@(?=[\w.-]+[:/])")
# A parameter whose name suggests that its value is a secret.
PARAMETER = re.compile(
    r"(?P<name>[?&#;](?:[\w.%\[\]-]{0,60}(?:token|secret|key|passw(?:or)?d|passphrase|credentials?|signature)"
    r"|(?:[\w.-]{0,30}[._-])?(?:pass|pwd|auth|authorization|bearer|sig|session(?:id)?|jwt|code|pat))\]?=)"
    r"(?P<value>[^\s&#;\"'<>]+)",
    re.IGNORECASE,
)
HIDDEN = "..."


def without_secrets(text: str) -> str:
    """Remove user information and secret parameters from the URLs in a text; `ssh://git@` stays."""
    clean = USER_INFORMATION.sub(lambda match: match[0] if _is_login(match) else f"{match['scheme']}://", text)
    return PARAMETER.sub(rf"\g<name>{HIDDEN}", BARE_PASSWORD.sub("", clean))


def check_url(key: str, url: str, remedy: str) -> None:
    """Raise `UserError` if a URL holds what may be a secret.

    Args:
        key: the recipe's key with this value.
        url: a URL, or a path, which never holds a secret.
        remedy: where the secret belongs instead, as the message's hint.
    """
    if without_secrets(url) != url:
        raise UserError(
            f"`{key}` may not hold a password or token: the run directory stores its recipe in clear text", remedy
        )


def check_repository_url(source: str) -> None:
    """Raise `UserError` if the URL of a repository holds what may be a secret; a path never does."""
    check_url("repo", source, "leave it out of the URL and use git's credential helper or ssh")


def _is_login(match: re.Match[str]) -> bool:
    """Whether the user information is the account of an ssh login; over http a user name may be a token."""
    return "ssh" in match["scheme"].lower() and not re.search("[:@]", match["user"])
