"""Patterns of credentials with a form of their own, as their issuers document it, and of private keys on one line.

Credentials that Kingfisher finds in every form and length (npm, Slack's hooks, Shopify, age) need no pattern here.
"""

from blocklm.mining.secrets.pattern import Pattern, always, has_random_value, pattern

VENDORS: tuple[Pattern, ...] = (
    pattern(  # a key on one line, its line ends escaped
        "private_key",
        "private key",
        r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----(?P<secret>(?>(?:\\[nr]|[\"'`,;+ ])*+[A-Za-z0-9+/=]++)++)",
        always,
    ),
    pattern("aws_id", "akia|asia", r"(?<![A-Za-z0-9/+])(?P<secret>(?:AKIA|ASIA)[A-Z2-7]{16})(?![A-Za-z0-9])"),
    pattern(
        "aws_secret",
        "aws|secret",
        r"(?i:aws.{0,20}|secret.{0,3}(?:access.{0,3})?key.{0,20}?)[\"'=:\s]{1,5}(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        has_random_value,
    ),
    pattern("github", "ghp_|gho_|ghs_|ghu_|ghr_", r"(?<!\w)(?P<secret>gh[opsur]_[A-Za-z0-9]{36,255})"),
    pattern("github", "github_pat_", r"(?<!\w)(?P<secret>github_pat_\w{22,255})"),
    pattern(
        "gitlab",
        "glpat-|gldt-|glrt-|glcbt-|glptt-|glft-|glsoat-|glagent-",
        r"(?<!\w)(?P<secret>gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent)-[\w-]{20,64})",
    ),
    pattern("slack", "xox|xapp-", r"(?<!\w)(?P<secret>(?:xox[abeoprs]|xapp)-[\w-]{20,200})"),
    pattern("discord", "/webhooks/", r"discord(?:app)?\.com/api/webhooks/(?P<secret>\d{17,20}/[\w-]{60,80})"),
    pattern("telegram", ":aa", r"(?<!\w)(?P<secret>\d{8,10}:AA[\w-]{33})(?![\w-])"),
    pattern(
        "stripe", "_live_|_test_|whsec_", r"(?<!\w)(?P<secret>(?:[rs]k_(?:live|test)_|whsec_)[A-Za-z0-9]{20,128})"
    ),
    pattern("google", "aiza", r"(?<!\w)(?P<secret>AIza[\w-]{35})(?![\w-])"),
    pattern("google", "ya29.|gocspx-", r"(?<!\w)(?P<secret>ya29\.[\w-]{30,300}|GOCSPX-[\w-]{28})"),
    pattern(
        "openai", "sk-", r"(?<![\w-])(?P<secret>sk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,200})", has_random_value
    ),
    pattern("anthropic", "sk-ant-", r"(?<![\w-])(?P<secret>sk-ant-[\w-]{20,200})"),
    pattern("huggingface", "hf_|api_org_", r"(?<!\w)(?P<secret>(?:hf_|api_org_)[A-Za-z]{34,40})(?!\w)"),
    pattern("pypi", "pypi-ageichlwas", r"(?P<secret>pypi-AgEIcHlwaS[\w-]{40,250})"),
    pattern("crates.io", "cio", r"(?<!\w)(?P<secret>cio[A-Za-z0-9]{32,40})(?!\w)", has_random_value),
    pattern("sendgrid", "sg.", r"(?<!\w)(?P<secret>SG\.[\w-]{20,24}\.[\w-]{39,50})"),
    pattern("mailgun", "key-", r"(?<![\w-])(?P<secret>key-[0-9a-f]{32})(?!\w)"),
    pattern(
        "azure", "accountkey=|sharedaccesskey=", r"(?:Account|SharedAccess)Key=(?P<secret>[A-Za-z0-9+/]{40,90}={0,2})"
    ),
    pattern("digitalocean", "_v1_", r"(?<!\w)(?P<secret>do[opr]_v1_[0-9a-f]{64})"),
    pattern("databricks", "dapi", r"(?<!\w)(?P<secret>dapi[0-9a-f]{32})(?!\w)"),
    pattern("docker", "dckr_", r"(?<!\w)(?P<secret>dckr_(?:pat|oat)_[\w-]{20,64})"),
    pattern("jwt", "eyj", r"(?<![\w-])(?P<secret>eyJ[\w-]{10,2000}\.eyJ[\w-]{10,2000}\.[\w-]{10,1000})", always),
)
