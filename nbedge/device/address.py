"""Addresses of devices that are reached by ssh."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from nbedge.errors import InputError

#: letters of a host, of a user; a leading "-" would be an option of ssh
_HOST = re.compile(r"[A-Za-z0-9_.:%][A-Za-z0-9_.:%-]*")
_USER = re.compile(r"[A-Za-z0-9_.+][A-Za-z0-9_.+-]*")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a device is.

    Attributes:
        host: its name, its address, or an alias of the user's ssh configuration.
        user: who logs in there; None leaves it to that configuration.
        port: of its sshd; None leaves it to that configuration.
    """

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read `ssh://user@host:port`; user and port may be left out.

        Raises:
            InputError: it is not of that form.

        >>> Address.parse("ssh://pi@raspberrypi.local:2222")
        Address(host='raspberrypi.local', user='pi', port=2222)
        """
        try:
            parts = urlsplit(text)
            if parts.password is not None:
                raise _refusal("ssh://...", "it holds a password, which ssh takes from no address; use a key")
            host, port = _host(parts.netloc), parts.port
        except ValueError as error:
            raise _refusal(text, str(error)) from error
        if parts.scheme != "ssh":
            raise _refusal(text, "it does not begin with ssh://")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise _refusal(text, "something follows the host")
        if not _HOST.fullmatch(host):
            raise _refusal(text, f"{host!r} is no host")
        if parts.username is not None and not _USER.fullmatch(parts.username):
            raise _refusal(text, f"{parts.username!r} is no user")
        if port == 0:
            raise _refusal(text, "0 is no port")
        return cls(host, parts.username, port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{f'{self.user}@' if self.user else ''}{host}{f':{self.port}' if self.port else ''}"

    @property
    def arguments(self) -> tuple[str, ...]:
        """What names it to ssh."""
        port = ("-p", str(self.port)) if self.port else ()
        return (*port, f"{self.user}@{self.host}" if self.user else self.host)

    @property
    def known_as(self) -> str:
        """Its name in ~/.ssh/known_hosts."""
        return f"'[{self.host}]:{self.port}'" if self.port and self.port != 22 else self.host


def _host(netloc: str) -> str:
    """Return the host as it is written: urlsplit makes it lower case, and aliases are not."""
    written = netloc.rpartition("@")[2]
    return written[1:].partition("]")[0] if written.startswith("[") else written.partition(":")[0]


def _refusal(text: str, reason: str) -> InputError:
    return InputError(f"{text!r} is no address of a device: {reason}; write ssh://user@host or ssh://user@host:port")
