"""One UDP socket to one address, kept: some receivers follow a sender by its source port."""

from __future__ import annotations

import logging
import socket
from types import TracebackType

from pipeline.limited_log import LimitedLog

log = logging.getLogger(__name__)

#: What fits into one IPv4 datagram.
MAX_DATAGRAM_BYTES = 65_507


class UdpSender:
    """Sends datagrams; whether anybody listens is not known. Use by one thread."""

    def __init__(self, host: str, port: int) -> None:
        """Raises ValueError for a port out of range or a host that has no address."""
        if not 0 < port < 65536:
            raise ValueError(f"Port {port}: expected 1 to 65535, mind that each further person has the next one.")
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            raise ValueError(f"--host {host!r} has no address ({error}): type, say, --host 127.0.0.1.") from error
        # "localhost" may be ::1 first, and receivers listen on IPv4
        chosen = min(found, key=lambda info: info[0] != socket.AF_INET)
        self._address = chosen[4]
        self._socket = socket.socket(chosen[0], chosen[1])
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        # a send that would wait is a frame that is late already
        self._socket.setblocking(False)
        self.name = f"udp://{host}:{port}"
        self._limited = LimitedLog(log)

    def __enter__(self) -> UdpSender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, datagram: bytes) -> bool:
        """Whether it left this machine; why not is logged at a limited rate."""
        try:
            self._socket.sendto(datagram, self._address)
        except OSError as error:
            self._limited.warning("%d bytes did not go to %s: %s.", len(datagram), self.name, error.strerror)
            return False
        return True

    def close(self) -> None:
        """Frees the socket. A second call does nothing."""
        self._socket.close()
