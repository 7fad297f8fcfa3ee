"""Connect to public addresses only: an address in a job must reach nothing inside the network.

Each name is looked up once and the connection goes to an address that was checked, so that a second
answer of the name server, or a redirect, cannot lead elsewhere.
"""

import ipaddress
import socket
from typing import Any, Final

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NameResolutionError, NewConnectionError

from scripts.common.diagnostics.error import UserError

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are IPv4


def is_public(address: str) -> bool:
    """Return whether an IP address is reachable on the internet, by IANA's registries.

    An IPv6 address that stands for an IPv4 address counts as that one.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        embedded = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if found in _NAT64:
            embedded = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if embedded:
            return is_public(str(embedded))
    return found.is_global and not found.is_multicast


def look_up(host: str, port: int) -> list[str]:
    """Return the IP addresses of a host, all of them public.

    Raises:
        UserError: one is not (code `address-not-public`).
        OSError: the name has none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(row[4][0]) for row in found))
    if not all(map(is_public, addresses)):
        # The address itself is not shown: it may be a secret of the network.
        raise UserError(location=host, code="address-not-public")
    return addresses


def connect_to_public(adapter: HTTPAdapter) -> None:
    """Let an adapter of `requests` connect to public addresses only.

    Requests through a proxy are not checked: the session must use none (`trust_env = False`).
    """
    adapter.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


class _PublicConnection(HTTPConnection):
    """A connection that looks its host up itself and dials an address that was checked."""

    _dns_host: str  # what urllib3 dials; `host`, made from it, is for TLS and headers

    def _new_conn(self) -> socket.socket:
        name = self._dns_host
        try:
            addresses = look_up(name, self.port)
        except socket.gaierror as error:
            raise NameResolutionError(name, self, error) from None
        failure: Exception = NewConnectionError(self, "it has no address")
        for address in addresses:
            self._dns_host = address
            try:
                return super()._new_conn()
            except NewConnectionError as error:
                failure = error
            finally:
                self._dns_host = name
        raise failure


class _PublicTLSConnection(_PublicConnection, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls: Any = _PublicConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls: Any = _PublicTLSConnection
