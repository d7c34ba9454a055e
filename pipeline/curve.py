"""Key files for encrypted and authorised connections (ZeroMQ CURVE).

`make_keys` writes two folders: `server/` stays with the stream, `client/` goes to whoever may read it::

    server/server.key_secret   client/client.key_secret
    server/clients/*.key       client/server.key
"""

from __future__ import annotations

import os
from pathlib import Path

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

MAKE_COMMAND = "python -m pipeline.publisher --make-keys DIR"


def make_keys(folder: Path) -> None:
    """Writes new keys below `folder`, readable by the user only. Raises FileExistsError rather than replace keys."""
    server, client, clients = folder / "server", folder / "client", folder / "server" / "clients"
    if server.exists() or client.exists():
        raise FileExistsError(f"{folder} holds keys already: name another folder, or remove server/ and client/ in it.")
    for path in (server, client, clients):
        path.mkdir(parents=True, mode=0o700)
    before = os.umask(0o077)
    try:
        public, _ = zmq.auth.create_certificates(server, "server")
        Path(public).rename(client / "server.key")
        public, _ = zmq.auth.create_certificates(client, "client")
        Path(public).rename(clients / "client.key")
    finally:
        os.umask(before)


def secure_server(
    context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes], folder: Path
) -> ThreadAuthenticator:
    """Lets only the clients in `folder`/clients/*.key connect to `socket`, which is not bound yet.

    Returns the running authenticator, which the caller stops. Raises ValueError when the keys are not there.
    """
    public, secret = _key_pair(folder / "server.key_secret")
    clients = folder / "clients"
    if not any(clients.glob("*.key")):
        raise ValueError(f"{clients}: expected the public keys of clients (*.key), found none; try {MAKE_COMMAND}.")
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve(domain="*", location=clients)
    socket.curve_publickey, socket.curve_secretkey, socket.curve_server = public, secret, True
    return authenticator


def secure_client(socket: zmq.Socket[bytes], folder: Path) -> None:
    """Gives `socket`, not connected yet, the client's keys. Raises ValueError when they are not there."""
    public, secret = _key_pair(folder / "client.key_secret")
    server, _ = _load(folder / "server.key")
    socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = public, secret, server


def _key_pair(path: Path) -> tuple[bytes, bytes]:
    public, secret = _load(path)
    if secret is None:
        raise ValueError(f"{path}: expected a secret key, found only a public one; make keys with {MAKE_COMMAND}.")
    return public, secret


def _load(path: Path) -> tuple[bytes, bytes | None]:
    try:
        return zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a CURVE key file ({error}); make keys with {MAKE_COMMAND}.") from error
