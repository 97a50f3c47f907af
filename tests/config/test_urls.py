"""Secrets in URLs are refused where they would be kept; what only resembles them is not."""

import pytest

from blocklm.config.urls import check_repository_url, without_secrets
from blocklm.errors import UserError


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://ghp_tok@host/x.git", "https://host/x.git"),
        ("HTTPS://me:pw@host/x.git", "HTTPS://host/x.git"),
        ("https://x-access-token:t0@host:8443/x", "https://host:8443/x"),
        ("https://me:p@ss@host/x", "https://host/x"),
        ("https://me:p/ss@host/x", "https://host/x"),
        ("git://tok@host/x", "git://host/x"),
        ("ssh://git:pw@host/x", "ssh://host/x"),
        ("ssh://tok@en@host/x", "ssh://host/x"),
        ("me:pw@host.org/x", "host.org/x"),
        ("https://host/x.git?private_token=t0", "https://host/x.git?private_token=..."),
        ("https://host/x?a=1&access_token=t0&b=2", "https://host/x?a=1&access_token=...&b=2"),
        ("https://host/x?X-Amz-Signature=t0#api_key=t1", "https://host/x?X-Amz-Signature=...#api_key=..."),
        ("https://host/x?sig=t0", "https://host/x?sig=..."),
    ],
)
def test_a_url_with_a_secret_is_refused_and_shown_without_it(url: str, clean: str) -> None:
    assert without_secrets(url) == clean
    with pytest.raises(UserError, match="may not hold a password or token") as refused:
        check_repository_url(url)
    assert url not in str(refused.value)


@pytest.mark.parametrize(
    "source",
    [
        "ssh://git@host:22/x.git",
        "git+ssh://git@host/x",
        "git@github.com:pallets/click.git",
        "https://github.com/pallets/click",
        "https://host:8443/@scope/x@v1.git",
        "https://host/~user/x.git?ref=main&keyword=git&pattern=x",
        "file:///srv/x@v1.git",
        "../a@b/c",
        "C:/repos/x@y",
        ".",
    ],
)
def test_a_url_without_a_secret_is_accepted(source: str) -> None:
    check_repository_url(source)
