"""TLS to MySQL and MariaDB as the URL's options want it, for the recorder and for Postfix's map.

Without an option TLS is used where the server offers it, and nothing is checked. With ssl_ca or
ssl_capath it is demanded, and the certificate's chain and name are checked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

OPTIONS: Final = (
    *("ssl_disabled", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_key_password"),
    *("ssl_cipher", "ssl_check_hostname", "ssl_verify_identity", "ssl_verify_cert"),
)
_YES: Final = ("1", "true", "yes", "on")
_NO: Final = ("0", "false", "no", "off", "")


@dataclass(frozen=True)
class MySQLTLS:
    """What TLS has to be; *files* are ca, capath, cert, key and cipher as far as they are set."""

    files: Mapping[str, str]
    disabled: bool
    checks_chain: bool
    checks_name: bool
    key_password: str

    @property
    def is_default(self) -> bool:
        """Whether TLS is used where it is offered, and nothing else is said."""
        return not (self.files or self.disabled or self.checks_chain or self.key_password)


def tls_of(options: Mapping[str, str]) -> MySQLTLS:
    """Return what a URL's *options* want. Raise ValueError for what contradicts itself."""
    names = ("ca", "capath", "cert", "key", "cipher")
    files = {name: options[f"ssl_{name}"] for name in names if options.get(f"ssl_{name}")}
    has_ca = "ca" in files or "capath" in files
    name = _flag(options, "ssl_verify_identity", _flag(options, "ssl_check_hostname", has_ca))
    chain = _flag(options, "ssl_verify_cert", has_ca or name)
    if has_ca and not chain:
        raise ValueError("ssl_verify_cert=true or no ssl_ca")
    return MySQLTLS(
        files,
        _flag(options, "ssl_disabled", False),
        chain,
        name,
        options.get("ssl_key_password", ""),
    )


def _flag(options: Mapping[str, str], key: str, default: bool) -> bool:
    value = options.get(key)
    if value is None:
        return default
    if value.lower() not in (*_YES, *_NO):
        raise ValueError(f"{key}=true or {key}=false")
    return value.lower() in _YES
