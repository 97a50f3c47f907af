"""Secrets and people are redacted whatever is around them; text that only resembles them stays."""

import logging
import random
import string

import pytest

from blocklm.mining import redaction
from blocklm.mining.redaction import redact

CHANCE = random.Random(5)
LETTERS, DIGITS, HEX = string.ascii_letters + string.digits, string.digits, "0123456789abcdef"


def drawn(length: int, alphabet: str = LETTERS) -> str:
    """A random string; the credentials below are invented, in the formats that their issuers document."""
    return "".join(CHANCE.choice(alphabet) for _ in range(length))


# kind: what stands before the secret, the secret, and what stands after it
CREDENTIALS: dict[str, tuple[str, str, str]] = {
    "aws_id": ("id = ", "AKIA" + drawn(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"), ""),
    "aws_secret": ("aws_secret_access_key = ", drawn(40), ""),
    "github": ("", "ghp_" + drawn(36), ""),
    "github_fine": ("x: ", f"github_pat_{drawn(22)}_{drawn(59)}", ""),
    "gitlab": ("", "glpat-" + drawn(20), ""),
    "slack": ("", f"xoxb-{drawn(12, DIGITS)}-{drawn(12, DIGITS)}-{drawn(24)}", ""),
    "slack_hook": ("https://hooks.slack.com/services/", f"T{drawn(8, DIGITS)}/B{drawn(8, DIGITS)}/{drawn(24)}", ""),
    "stripe": ("key=", "sk_live_" + drawn(24), ""),
    "google": ("", "AIza" + drawn(35), ""),
    "openai": ("", "sk-proj-" + drawn(48), ""),
    "anthropic": ("", f"sk-ant-api03-{drawn(93)}AA", ""),
    "huggingface": ("login(", "hf_" + drawn(34, string.ascii_letters), ")"),
    "npm": ("_authToken=", "npm_" + drawn(36), ""),
    "shopify": ("", "shpat_" + drawn(32, HEX), ""),
    "age": ("", "AGE-SECRET-KEY-1" + drawn(58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"), ""),
    "pypi": ("", "pypi-AgEIcHlwaS5vcmc" + drawn(80), ""),
    "crates.io": ("", "cio" + drawn(32), ""),
    "sendgrid": ("", f"SG.{drawn(22)}.{drawn(43)}", ""),
    "jwt": ("Bearer ", f"eyJhbGciOiJIUzI1NiJ9.eyJ{drawn(40)}.{drawn(43)}", ""),
    "url": ("postgres://admin:", drawn(12), "@db.internal:5432/x"),
    "password": ('password = "', drawn(10) + "7!", '"'),
    "typed": ('let client_secret: &str = "', drawn(40), '";'),
    "environment": ("API_TOKEN=", drawn(32), ""),
    "hex": ('SECRET_KEY = "', drawn(64, HEX), '"'),
    "yaml": ("  db_password: ", drawn(9) + "7$%40", ""),
    "url_percent": ("amqp://user:", drawn(9) + "%24$", "@host.internal/vhost"),
    "yaml_token": ("  api_token: ", drawn(32), ""),
    "call": ('client.with_token("', drawn(36), '")'),
    "tuple": ("get(url, auth=('bob', '", drawn(12) + "9!", "'))"),
    "bearer": ('{"Authorization": "Bearer ', drawn(40), '"}'),
    "basic": ("Authorization: Basic ", drawn(39), "="),
    "netrc": ("machine h login u password ", drawn(14) + "3", ""),
    "connection": ("Server=h;User Id=sa;Password=", drawn(12) + "4", ";Timeout=3"),
    "mailgun": ("", "key-" + drawn(32, HEX), ""),
    "azure": ("AccountKey=", drawn(86), "=="),
    "digitalocean": ("", "dop_v1_" + drawn(64, HEX), ""),
    "telegram": ("", drawn(9, "123456789") + ":AA" + drawn(33), ""),
    "json": ('"private_key": "-----BEGIN PRIVATE KEY-----', "\\n" + drawn(64) + "\\n" + drawn(20), '\\n-----END PRIVATE KEY-----\\n"'),
}  # fmt: skip
BODY = "\n".join(drawn(64) for _ in range(8))
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{BODY}\n{drawn(20)}==\n-----END RSA PRIVATE KEY-----"


def marked(text: str, mark: str) -> str:
    return "\n".join(mark + line for line in text.split("\n"))


@pytest.mark.parametrize("mark", ["+", "-", " ", ""])
@pytest.mark.parametrize("kind", CREDENTIALS)
def test_every_kind_of_credential_is_redacted(kind: str, mark: str) -> None:
    before, secret, after = CREDENTIALS[kind]
    (found,) = redact([f"@@ -1 +1 @@\n{mark}{before}{secret}{after}\n y = 1"])
    assert found.credentials
    assert secret[-10:] not in found.text
    assert secret[8:20] not in found.text
    assert found.text.endswith("\n y = 1")


@pytest.mark.parametrize("comment", ["", "# ", "// ", "   "])
@pytest.mark.parametrize("mark", ["+", "-", " "])
def test_a_private_key_is_redacted_and_the_number_of_lines_stays(mark: str, comment: str) -> None:
    key = marked(marked(PEM, comment), mark)
    (found,) = redact([f"@@ -1 +1 @@\n{key}\n x = 1"])
    assert all(line not in found.text for line in BODY.split("\n"))
    assert found.text.count("\n") == key.count("\n") + 2
    assert all(line[0] == mark for line in found.text.split("\n")[2:-1]), "each line keeps its mark"
    assert found.text.endswith("\n x = 1")


@pytest.mark.parametrize("part", ["head", "tail"])
def test_half_a_private_key_is_redacted(part: str) -> None:
    """A diff shows three lines around a change, so often only one end of a key."""
    lines = marked(PEM, " ").split("\n")
    shown = lines[:4] if part == "head" else lines[-4:]
    (found,) = redact(["\n".join(["@@ -1 +1 @@", *shown, "+x = 1"])])
    assert found.credentials
    assert all(line.strip() not in found.text for line in lines if len(line) == 65)


def test_a_secret_found_once_is_redacted_everywhere() -> None:
    secret = drawn(40)
    first, second = redact([f'-client_secret = "{secret}"\n+client_secret = load()', f"see {secret}"])
    assert secret not in first.text + second.text
    assert second.text == "see <KEY>"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Author: Ada Lovelace <ada@lovelace.dev>", "Author: <NAME> <<EMAIL>>"),
        ("mail security@company.co.uk.", "mail <EMAIL>."),
        ("Authors <authors@tokio.rs>", "Authors <<EMAIL>>"),
        ("José Núñez <jose@company.com>", "<NAME> <<EMAIL>>"),
        ('to = "ada@poczta.pl"', 'to = "<EMAIL>"'),
        ("to = ['ada@firma.in', 'joan@net.lu']", "to = ['<EMAIL>', '<EMAIL>']"),
        ('to = "ada@lovelace.photography"', 'to = "<EMAIL>"'),
        ('say("write to ada@lovelace.software now")', 'say("write to <EMAIL> now")'),
        ("[mail](mailto:ada@lovelace.md)", "[mail](mailto:<EMAIL>)"),
        ("# Author: Ada, ada@lovelace.rs", "# Author: Ada, <EMAIL>"),
        ("author_email=ada@lovelace.id", "author_email=<EMAIL>"),
        ("email:ada@lovelace.name", "email:<EMAIL>"),
        ("Maintainer ada@lovelace.sh", "Maintainer <EMAIL>"),
        ("contact (ada@lovelace.zone)", "contact (<EMAIL>)"),
        ("ada@lovelace.cc (author)", "<EMAIL> (author)"),
        ("ping ada@lovelace.net, bob@web.de", "ping <EMAIL>, <EMAIL>"),
        ("MAIL_TO=ada@163.com", "MAIL_TO=<EMAIL>"),
    ],
)
def test_people_are_redacted(text: str, redacted: str) -> None:
    (found,) = redact([text])
    assert found.text == redacted
    assert not found.credentials


@pytest.mark.parametrize(
    "text",
    [
        "git clone git@github.com:tokio-rs/tokio.git",
        "user@example.com, x@y.test, root@localhost",
        "y = a@b.T + w@x.sum(axis=0) and @app.route('/x') in z@main.rs",
        "npm install @scope/pkg@1.0.2",
        "scores = q@k.name",
        "x = x@model.net + b@W.info",
        "return (h@self.app)",
        "val owner = this@Fragment.context ?: return@launch",
        'text("${this@Fragment.context}")',
        "z = roots@basis.re * w@x.im",
        'image = "icon@2x.png"',
        '"react": "npm:@preact/compat@17.0.2"',
        'cargo = "serde@1.0.rc"',
        "uses: actions/checkout@v4.name",
        'token = "Qwen/Qwen2.5-0.5B-Instruct"',
        'tokenizer_name = "unsloth/Llama-3.2-3B-bnb-4bit"',
        "let token: Option<String> = None;",
        'password: "<your password here>"',
        'api_key = "YOUR_API_KEY_0123456789"',
        'api_key = os.environ["API_KEY_PRODUCTION_2"]',
        'secret = "${{ secrets.GITHUB_TOKEN }}"',
        "sha256 = 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        'key = "crates/consensus/src/leader_election_v2.rs"',
        "https://user:password@host/ and http://localhost:8080/a@b",
        "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n-----END PUBLIC KEY-----",
        'header = "-----BEGIN RSA PRIVATE KEY-----"\nprint(header)',
        "  password: config.password2,",
        "pwd = process.cwd2",
        'password = "@env:AC_PASSWORD2"',
        "the password hunting2 begins; password: Password2Factory",
        "this asks-for a task-sk-like disk-name",
    ],
)
def test_text_that_only_resembles_a_secret_stays(text: str) -> None:
    (found,) = redact([text])
    assert found.text == text
    assert found.kinds == ()


def test_a_private_key_does_not_extend_into_the_next_text() -> None:
    texts = ["-----BEGIN RSA PRIVATE KEY-----", BODY, "", "x" * 70]
    assert [found.text for found in redact(texts)] == texts
    assert redact([]) == []


def test_a_scanner_that_fails_is_no_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def scan(self, text: bytes) -> list[object]:
            raise RuntimeError("out of memory")

    monkeypatch.setattr(redaction, "_scanner", Broken)
    with pytest.raises(RuntimeError):
        redact(["x"])


def test_the_found_secret_is_not_shown(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.DEBUG):
        redact([CREDENTIALS["github"][1]])
    assert CREDENTIALS["github"][1] not in caplog.text + "".join(capfd.readouterr())
