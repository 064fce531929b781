"""What a document of the configuration may have the program do: which hosts it may name, and which secrets.

Whoever writes documents, such as finance by a pull request, is not whoever runs the program. Without these limits a
document could send any secret of the process to any host, or ask services that only this machine reaches:

1. An address is https, or http on loopback, and written plainly: no user, no odd characters that two readers of one
   address take for different hosts.
2. Its host belongs to the vendor's cloud or is in the setting ``allowed_hosts``.
3. A host that is not in the setting must not resolve to a private or link-local address. Who reaches a storage by a
   private endpoint names its host in the setting.
4. A redirect is not followed (`azure_http`).
5. A secret comes from a variable whose name begins with `settings.SECRET_PREFIX`; the name is not repeated when it is refused,
   because it may be the secret itself.
"""

import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.wording import quoted
from octo_pipeline.settings import SECRET_PREFIX

_ADDRESS = re.compile(r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?P<port>:\d{1,5})?(/[^\s\\]*)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)
_LOOPBACK_NAME = "localhost"


@dataclass(frozen=True)
class Reach:
    """The hosts that documents of a vendor may name.

    Attributes:
        cloud: the domains of the vendor's cloud; hosts below them are allowed.
        allowed: the hosts of the setting ``allowed_hosts``.
    """

    cloud: Sequence[str]
    allowed: Sequence[str]
    _checked: set[str] = field(default_factory=set, compare=False, repr=False)

    def require(self, url: str) -> None:
        """Refuse an address that a document must not name; nothing is asked for this.

        Raises:
            OctoError: it is not https, is written oddly, or its host is not allowed.
        """
        address = _ADDRESS.fullmatch(url.partition("?")[0])
        if address is None:
            raise OctoError(
                "An address of a source must be https://host/path, without a user and without odd characters.",
                code="source-address-wrong",
            )
        host = _host(url)
        if _is_loopback(host):
            return
        if address["scheme"] != "https":
            raise OctoError(
                f"{quoted(host)} must be asked by https, so that nobody on the way reads the secret.",
                code="source-address-wrong",
                place=host,
            )
        if host not in self.allowed and not any(host.endswith(f".{domain}") for domain in self.cloud):
            raise OctoError(
                f"The host {quoted(host)} is not one of the vendor's ({', '.join(f'*.{domain}' for domain in self.cloud)}), "
                "and no document may name another.",
                code="source-host-refused",
                place=host,
                remedy=Remedy("set", setting="allowed_hosts", to=f"a list with {host}, if it is yours"),
            )

    def require_public(self, url: str) -> None:
        """Refuse a host that leads into this machine's own network; the first request to a host asks the name server.

        Raises:
            OctoError: an address of the host is private or link-local, and the setting does not name the host.
        """
        host = _host(url)
        if host in self._checked or host in self.allowed or _is_loopback(host):
            return
        self._checked.add(host)
        # A host that cannot be resolved here, such as behind a proxy, is the business of the request.
        addresses: set[str] = set()
        with suppress(OSError, UnicodeError):
            addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
        for address in sorted(addresses):
            if not ipaddress.ip_address(address.partition("%")[0]).is_global:
                raise OctoError(
                    f"The host {quoted(host)} leads to {address}, which is not a public address.",
                    code="source-host-refused",
                    place=host,
                    remedy=Remedy(
                        "set", setting="allowed_hosts", to=f"a list with {host}, if it is a private endpoint"
                    ),
                )


def require_secret_name(variable: str, field: str) -> str:
    """Return the name of a variable if it can be one with the secret of a source.

    Args:
        variable: the name, which is never repeated unless it is well formed.
        field: the field that holds it, for the sentence.

    Raises:
        OctoError: it is another variable's, or not a name at all.
    """
    if variable.startswith(SECRET_PREFIX) and _VARIABLE.fullmatch(variable):
        return variable
    raise OctoError(
        f"{field} must be the name of a variable that begins with {SECRET_PREFIX}, so that no document can have another "
        f"secret sent: rename the variable to {SECRET_PREFIX}… where it is set and here. If a secret was typed here, "
        "replace that secret. Nothing was read or sent.",
        code="secret-variable-refused",
        place=field,
    )


def source_secret(environment: Mapping[str, str], variable: str, field_name: str, purpose: str) -> str:
    """The secret of a source, which an environment variable holds.

    Raises:
        OctoError: the name is not one that a source's secret can have, or the variable is not set.
    """
    secret = environment.get(require_secret_name(variable, field_name), "").strip()
    if not secret:
        raise OctoError(
            f"{purpose} needs the secret in the environment variable {variable}, which is not set. Set it.",
            code="secret-variable-not-set",
        )
    return secret


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").lower().rstrip(".")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == _LOOPBACK_NAME
