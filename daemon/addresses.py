"""Listen addresses: `127.0.0.1:9000`, `[::1]:9000`, `localhost:9000`, `:9000` for all."""

from __future__ import annotations

from dataclasses import dataclass

PORT_MAX = 65535
ALL_HOSTS = frozenset({"", "0.0.0.0", "::"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """host: "" for every address of the machine. port: 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def reachable(self) -> Address:
        """The address a program on this machine connects to."""
        return Address(host="127.0.0.1", port=self.port) if self.host in ALL_HOSTS else self


def parse_address(text: str) -> Address:
    """The address written as `text`. Raises ValueError with the reason."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > PORT_MAX:
        raise ValueError(f"{text!r} is not host:port with a port up to {PORT_MAX}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, as [::1]:9000")
    if any(mark in host for mark in "/[]@ "):
        raise ValueError(f"{text!r} is not host:port: leave out http:// and paths")
    return Address(host=host, port=int(port))
