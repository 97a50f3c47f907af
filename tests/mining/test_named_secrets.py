"""A literal beside a name for a secret is redacted in every usual form; types, calls and names stay."""

import random
import re
import string

import pytest

from blocklm.mining.redaction import redact
from blocklm.mining.secrets.pattern import RANDOM_RUN, is_random

PASSWORD, KEY = "hX7dkq2LmPz9", "vB7nQ2xL9kR4tZ6mW1pDvB7n"  # made up
PASSWORD_FORMS = [
    'storePassword "{}"',
    "keyPassword '{}'",
    "<password>{}</password>",
    "<Password><![CDATA[{}]]></Password>",
    '<property name="password" value="{}"/>',
    '<input type="password" name="x" value="{}"/>',
    '<add key="DbPassword" type="text" value="{}"/>',
    '<bean p:password="{}"/>',
    '#define WIFI_PASSWORD "{}"',
    "ALTER ROLE svc WITH PASSWORD '{}';",
    "CREATE USER svc IDENTIFIED BY '{}';",
    "ALTER USER svc IDENTIFIED WITH mysql_native_password BY '{}';",
    "SET PASSWORD FOR 'svc'@'%' = PASSWORD('{}');",
    "define('DB_PASSWORD', '{}');",
    'define( "DB_PASS", "{}" );',
    "$config['password'] = '{}';",
    'config["db"]["password"] = "{}"',
    'char password[] = "{}";',
    'char wifi_password[32] = "{}";',
    'if password == "{}" {{',
    'props.put("password", "{}");',
    'client.login("me", password="{}")',
    'db.setPassword("{}");',
    'DB_PASS: "{}"',
    "smtpPass = '{}'",
    'ENV DB_PASSWORD {}',
    "ARG DB_PASSWORD={}",
    "setenv DB_PASS {}",
    "mysql --password={} -u svc",
    'run("--password {}")',
    'args: ["--password", "{}"]',
    "  - name: DB_PASSWORD\n    value: {}",
    '  - name: DB_PASSWORD\n    value: "{}"',
    "<key>password</key>\n<string>{}</string>",
    "<key>password</key><string>{}</string>",
    "curl -u svc:{} https://host.org",
    "amqp://svc:p@{}@mq.acme.io/vh",
    "postgres://svc:W/{}@db.acme.io:5432/vh",
    'passphrase: "{}"',
    '$p = ConvertTo-SecureString "{}" -AsPlainText',
    '$p = ConvertTo-SecureString -String "{}" -AsPlainText',
    'password \\"{}\\"',
    'variable "db_password" {{\n  default = "{}"\n}}',
    '<Setting Name="Password"><Value>{}</Value></Setting>',
    "ENV['DB_PASSWORD'] ||= '{}'",
    'os.environ.get("DB_PASSWORD") or "{}"',
    'const password = process.env.DB_PASSWORD || "{}";',
    'os.Getenv("DB_PASSWORD", "{}")',
    "DB_PASSWORD ?= {}",
    "requirepass {}",
    "bindpw {}",
    'NSString *password = @"{}";',
    'val password: String = "{}"',
    "'password' => '{}',",
    '{{\\"password\\": \\"{}\\"}}',
    "  POSTGRES_PASSWORD: {}",
    "      - DB_PASSWORD={}",
    "HTTPBasicAuth('me', '{}')",
    "spring.datasource.password={}",
]  # fmt: skip
KEY_FORMS = [
    '#define API_TOKEN "{}"',
    "os.environ['API_TOKEN'] = '{}'",
    'os.environ["API_TOKEN"]="{}"',
    'env::set_var("API_TOKEN", "{}");',
    "ENV API_TOKEN {}",
    "ENV API_TOKEN={}",
    "export API_TOKEN={}",
    "deploy --token {}",
    'req.Header.Set("X-Api-Key", "{}")',
    "headers: {{ 'X-Api-Key': '{}' }}",
    "curl -H 'PRIVATE-TOKEN: {}' https://host.org",
    '<string name="api_key">{}</string>',
    '<add key="ApiKey" value="{}"/>',
    "<apiKey>{}</apiKey>",
    'buildConfigField "String", "API_KEY", \'"{}"\'',
    'buildConfigField("String", "API_KEY", "\\"{}\\"")',
    "define('AUTH_KEY', '{}');",
    "  - name: API_TOKEN\n    value: {}",
    "<key>apiToken</key>\n  <string>{}</string>",
    "https://{}@host.org/x.git",
    "https://{}:x-oauth-basic@host.org/x.git",
    "https://host.org/x?private_token={}&page=2",
    "https://host.org/x?page=2&api_key={}&sort=name",
    "https://host.blob.org/x?sv=2024&sig={}",
    "Authorization: token {}",
    'const TOKEN = "{}";',
    '["token", "{}"]',
    "API_TOKEN ?= {}",
    '@Value("${{api.key:{}}}")',
    '<meta name="csrf-token" content="{}">',
    '$env:API_TOKEN = "{}"',
    'const API_TOKEN: &[u8] = b"{}";',
    'os.environ.setdefault("API_TOKEN", "{}")',
]


def diff_of(text: str, mark: str) -> str:
    return "@@ -1 +1 @@\n" + "\n".join(mark + line for line in text.split("\n")) + "\n y = 1"


@pytest.mark.parametrize("mark", ["+", "-"])
@pytest.mark.parametrize(("form", "value"), [(f, PASSWORD) for f in PASSWORD_FORMS] + [(f, KEY) for f in KEY_FORMS])
def test_only_the_value_is_redacted(form: str, value: str, mark: str) -> None:
    (found,) = redact([diff_of(form.format(value), mark)])
    assert value[-8:] not in found.text
    assert value[:8] not in found.text
    assert found.text.endswith("\n y = 1")
    assert found.credentials
    after = form.partition("{}")[2].replace("{{", "{").replace("}}", "}")
    assert "\n" in after or found.text.partition("\n y")[0].endswith(after[-9:])
    names = re.findall(r"\w{3,}", form.replace("svc:{}", "").replace("oauth", "").partition("{}")[0])
    assert all(name in found.text for name in names), "the name stays"


@pytest.mark.parametrize(
    "text",
    [
        "token: Token",
        "password: String,",
        "password = read()",
        'password = getpass("Password: ")',
        "let password: Option<SecretString> = None;",
        'parser.add_argument("--password", help="the password2 of the user")',
        'fields = ["username", "password", "sha256_crypt", "created_at"]',
        '<label for="password2">Password2</label>',
        '<input type="password" name="new_password2" value="{{ password1 }}">',
        "<token>IDENTIFIER2</token>",
        '<string name="api_key_title">Preferences2</string>',
        "ENV API_TOKEN ${TOKEN_2}",
        "ARG PASSWORD",
        "ENV KEY_PATH /etc/ssl/key2.pem",
        'headers.set("Authorization", `Bearer ${token2}`)',
        'os.environ["API_TOKEN"] = load_token2()',
        "#define PASSWORD_MAX_LENGTH 128",
        "#define TOKEN_TYPE_2 TOKEN_BASE_TYPE_1",
        'assert_eq!(token, "identifier_2")',
        "IDENTIFIED BY '<password>'",
        "  - name: API_TOKEN\n    valueFrom: secretKeyRef2",
        '  - name: DB_PASSWORD\n    value: "${DB_PASSWORD_2}"',
        "public bool pass1 = true; pass; passed: 12345678",
        "http://localhost:8080/path@2x/y and https://host.org:443/@scope2/x@v1.2",
        "docker://alpine:3.18@sha256:abc",
        "https://host.org/x?keyword=python3&page=2",
        'get("/search?after-id=1&passphrase=secret&limit=2")',
        "git+ssh://git@host.org/x.git",
        "curl -u $USER:$PASSWORD2 https://host.org",
        "ssh-keygen -t ed25519 -f key2",
        "user --user name:group2",
    ],
)
def test_a_type_a_call_and_a_name_are_not_redacted(text: str) -> None:
    (found,) = redact([diff_of(text, "+")])
    assert found.text == diff_of(text, "+")


def test_lines_that_are_skipped_hold_no_random_text() -> None:
    chance = random.Random(0)
    alphabet = f"{string.ascii_letters}{string.digits}+=_-./".encode()
    texts = [bytes(chance.choices(alphabet, k=chance.randint(14, 60))) for _ in range(2000)]
    drawn = [text for text in texts if is_random(text)]
    assert len(drawn) > 100
    assert all(RANDOM_RUN.search(b'token = "%s"' % text) for text in drawn)
    assert not RANDOM_RUN.search(b"tokenizer.convert_tokens_to_ids(tokenizer.additional_special_tokens[0])")
