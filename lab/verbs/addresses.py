# SPDX-License-Identifier: MIT
"""Addresses of sockets, as forms of data and as results."""

import struct
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Any

from lab.errors import UsageError
from lab.language.annotations import Int, Text
from lab.language.context import Context
from lab.language.data import form


@dataclass(frozen=True)
class NetlinkAddress:
    """A port and multicast groups, one bit each."""

    pid: Int = 0
    groups: Int = 0


@dataclass(frozen=True)
class UnixAddress:
    """A path, or a name that is in no file system; neither: the kernel chooses a name."""

    path: Text | None = None
    abstract: Text | None = None


@dataclass(frozen=True)
class Inet4Address:
    """An IPv4 address and a port."""

    addr: Text = "0.0.0.0"  # noqa: S104 - what zero bytes say
    port: Int = 0


@dataclass(frozen=True)
class Inet6Address:
    """An IPv6 address and a port."""

    addr: Text = "::"
    port: Int = 0
    flowinfo: Int = 0
    scope_id: Int = 0


@form
def sockaddr_nl(context: Context, address: NetlinkAddress | None = None) -> bytes:
    """Make a netlink address: `pid` (the port, 0: the kernel) and `groups`, a bit each."""
    given = address or NetlinkAddress()
    return _packed(context, "AF_NETLINK", "HII", 0, given.pid, given.groups)


@form
def sockaddr_un(context: Context, address: UnixAddress | None = None) -> bytes:
    """Make a local socket's address: `path`, or `abstract` for a name that is in no file system."""
    given = address or UnixAddress()
    if given.path is not None and given.abstract is not None:
        raise UsageError("{sockaddr_un: …} is either a path or an abstract name")
    name = b""
    if given.path is not None:
        name = given.path.encode() + b"\0"
    elif given.abstract is not None:
        name = b"\0" + given.abstract.encode()
    if len(name) > 108:
        raise UsageError(f"{{sockaddr_un: …}} has room for 108 bytes, the name takes {len(name)}")
    return _packed(context, "AF_UNIX", "") + name


@form
def sockaddr_in(context: Context, address: Inet4Address | None = None) -> bytes:
    """Make an IPv4 address: `addr` (127.0.0.1) and `port`."""
    given = address or Inet4Address()
    try:
        addr = IPv4Address(given.addr).packed
    except AddressValueError as error:
        raise UsageError(f"{{sockaddr_in: …}}: {error}") from None
    return _packed(context, "AF_INET", "") + _port(given.port) + addr + bytes(8)


@form
def sockaddr_in6(context: Context, address: Inet6Address | None = None) -> bytes:
    """Make an IPv6 address: `addr` (::1), `port`, `flowinfo` and `scope_id`."""
    given = address or Inet6Address()
    try:
        addr = IPv6Address(given.addr).packed
    except AddressValueError as error:
        raise UsageError(f"{{sockaddr_in6: …}}: {error}") from None
    head = _packed(context, "AF_INET6", "") + _port(given.port) + struct.pack(">I", given.flowinfo)
    return head + addr + struct.pack(_mark(context) + "I", given.scope_id)


def _mark(context: Context) -> str:
    return "<" if context.abi.arch.byteorder == "little" else ">"


def _packed(context: Context, family: str, layout: str, *values: int) -> bytes:
    try:
        return struct.pack(_mark(context) + "H" + layout, context.constant(family), *values)
    except struct.error as error:
        raise UsageError(f"an address of {family} with {', '.join(map(str, values))}: {error}") from None


def _port(port: int) -> bytes:
    if not 0 <= port <= 0xFFFF:
        raise UsageError(f"port {port} does not fit 16 bits")
    return struct.pack(">H", port)


def decode(context: Context, data: bytes | None) -> dict[str, Any] | None:
    """Return the parts of an address as the kernel wrote it; None when there is none.

    An address that is cut short, or of a family that is not known here, has its bytes as `data`.
    """
    if data is None or len(data) < 2:
        return None
    family = int.from_bytes(data[:2], context.abi.arch.byteorder)
    found: dict[str, Any] = {"family": family}
    rest = data[2:]
    mark = _mark(context)
    if family == context.constant("AF_NETLINK") and len(data) >= 12:
        _, found["pid"], found["groups"] = struct.unpack_from(mark + "HII", rest)
    elif family == context.constant("AF_UNIX"):
        if rest[:1] == b"\0":
            found["abstract"] = rest[1:].decode(errors="replace")
        elif rest:
            found["path"] = rest.split(b"\0")[0].decode(errors="replace")
    elif family == context.constant("AF_INET") and len(data) >= 8:
        found["port"] = int.from_bytes(rest[:2], "big")
        found["addr"] = str(IPv4Address(rest[2:6]))
    elif family == context.constant("AF_INET6") and len(data) >= 28:
        found["port"], found["flowinfo"] = struct.unpack_from(">HI", rest)
        found["addr"] = str(IPv6Address(rest[6:22]))
        found["scope_id"] = struct.unpack_from(mark + "I", rest, 22)[0]
    else:
        found["data"] = rest
    return found
