"""Why an RTSP or HTTP address gives no picture: OpenCV only says that it does not.

RTSP is asked with one DESCRIBE (RFC 2326, section 10.2), answered with basic or digest credentials (RFC 7616) when
the server wants them.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import re
import socket
from urllib.parse import SplitResult, unquote, urlsplit

from pipeline.source_spec import DEFAULT_PORTS

_MAX_HEADER = 65536


def why_no_picture(address: str, timeout_s: float = 3.0) -> str:
    """The reason, as the end of a sentence with what to do. Blocks for at most a few times `timeout_s`; never raises.

    The password is sent to the server and is not part of what is returned.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme.lower()]
    except ValueError:
        host, port = "", 0
    if not host:
        return "the address has no valid host and port; write special characters of a password as %40 for @, %2F for /."
    try:
        status = _status(parts, host, port, timeout_s)
    except socket.gaierror:
        return f"no host is called {host}; check the spelling and the network."
    except ConnectionRefusedError:
        return f"nothing listens on {host} port {port}; check that the camera is on and that the port is right."
    except TimeoutError:
        return f"{host} port {port} did not answer within {timeout_s:g} s; check the address and the network."
    except (OSError, http.client.HTTPException) as error:
        return f"{host} port {port} cannot be reached ({error.__class__.__name__}: {error})."
    return _reason(status, parts, host, port)


def _reason(status: int | None, parts: SplitResult, host: str, port: int) -> str:
    if status == 401 and parts.username is None:
        form = f"{parts.scheme}://USER:PASSWORD@{host}:{port}{parts.path}"
        return f"the camera asks for a user name and a password; type {form}."
    if status == 401:
        return (
            "the camera refuses the user name or the password; check them, and write special characters as %40 for @, "
            "%3A for :, %2F for /."
        )
    if status == 403:
        return "the camera forbids this user to see it (403); use another user or allow this one in its settings."
    if status in (404, 454):
        return f"{host} has no stream at {parts.path or '/'} (404); look up the path in the camera's manual."
    if status is None:
        return f"something listens on {host} port {port}, but it does not speak {parts.scheme.upper()}."
    if status >= 400:
        return f"{host} answers with error {status}; look into its settings."
    return f"{host} answers, but sends no video that can be decoded; set the camera to H.264 and try again."


def _status(parts: SplitResult, host: str, port: int, timeout_s: float) -> int | None:
    """What the server says to a request for this address; None when it does not speak the protocol."""
    scheme = parts.scheme.lower()
    if scheme in ("http", "https"):
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        connection = kind(host, port, timeout=timeout_s)
        try:
            headers = {"Authorization": _basic(parts)} if parts.username is not None else {}
            connection.request("GET", f"{parts.path or '/'}{'?' * bool(parts.query)}{parts.query}", headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()
    with socket.create_connection((host, port), timeout=timeout_s) as link:
        if scheme == "rtsps":
            return 200
        link.settimeout(timeout_s)
        target = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        status, header = _describe(link, target, 1, None)
        if status == 401 and parts.username is not None:
            status, _ = _describe(link, target, 2, _authorization(header, parts, target))
        return status


def _describe(link: socket.socket, target: str, sequence: int, authorization: str | None) -> tuple[int | None, str]:
    lines = [f"DESCRIBE {target} RTSP/1.0", f"CSeq: {sequence}", "Accept: application/sdp"]
    if authorization:
        lines.append(f"Authorization: {authorization}")
    link.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < _MAX_HEADER:
        piece = link.recv(4096)
        if not piece:
            break
        answer += piece
    header = answer.decode("latin-1")
    status = re.match(r"RTSP/1\.\d (\d{3})", header)
    return (int(status[1]) if status else None), header


def _credentials(parts: SplitResult) -> tuple[str, str]:
    return unquote(parts.username or ""), unquote(parts.password or "")


def _basic(parts: SplitResult) -> str:
    return "Basic " + base64.b64encode(":".join(_credentials(parts)).encode()).decode()


def _authorization(header: str, parts: SplitResult, target: str) -> str:
    """The answer to a server's challenge: digest where it is offered, else basic."""
    challenge = re.search(r"^WWW-Authenticate:\s*Digest\s+(.*)$", header, re.IGNORECASE | re.MULTILINE)
    if not challenge:
        return _basic(parts)
    fields = {
        key.lower(): quoted or bare for key, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', challenge[1])
    }
    user, password = _credentials(parts)
    realm, nonce = fields.get("realm", ""), fields.get("nonce", "")
    algorithm = "sha256" if fields.get("algorithm", "").upper() == "SHA-256" else "md5"

    def digest(text: str) -> str:
        return hashlib.new(algorithm, text.encode(), usedforsecurity=False).hexdigest()

    secret, request = digest(f"{user}:{realm}:{password}"), digest(f"DESCRIBE:{target}")
    answer = {"username": user, "realm": realm, "nonce": nonce, "uri": target}
    if "auth" in fields.get("qop", "").split(","):
        answer |= {"qop": "auth", "nc": "00000001", "cnonce": "0a4f113b"}
        answer["response"] = digest(f"{secret}:{nonce}:00000001:0a4f113b:auth:{request}")
    else:
        answer["response"] = digest(f"{secret}:{nonce}:{request}")
    if "opaque" in fields:
        answer["opaque"] = fields["opaque"]
    return "Digest " + ", ".join(f'{key}="{value}"' for key, value in answer.items())
