"""Listens for editors on this machine, or on a network if the user says so."""

import logging
import socket
from collections.abc import Callable
from types import FrameType

import psutil
import uvicorn

from blocklm.errors import UserError
from blocklm.serving.app import make_app
from blocklm.serving.served import Served

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
WILDCARDS = ("0.0.0.0", "::")
SHUTDOWN_SECONDS = 2
CONNECTIONS = 512

logger = logging.getLogger(__name__)


def listen(served: Served, host: str, port: int) -> None:
    """Answer requests until a signal comes.

    Args:
        served: the runs.
        host: address to listen on.
        port: its port.

    Raises:
        UserError: the address cannot be listened on.
    """
    if host not in LOOPBACK:
        logger.warning("whoever reaches %s may ask: the server has no password", host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host.strip("[]"), port))
        except (OSError, OverflowError) as error:
            raise UserError(f"`{host}:{port}` cannot be listened on: {error}", "give another `--port`") from None
        config = uvicorn.Config(
            app := make_app(served, allowed_hosts(host)),
            log_config=None,  # to the handlers of `console`, as all our messages
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            server_header=False,
        )
        names = ", ".join(run.name for run in served.runs)
        logger.info("%s on http://%s:%d", names, host, listening.getsockname()[1])
        try:
            _Server(config, app.state.stop).run([listening])
        finally:
            served.close()


class _Server(uvicorn.Server):
    """A server that ends its answers at a signal, rather than wait for them."""

    def __init__(self, config: uvicorn.Config, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop = stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._stop()


def allowed_hosts(host: str) -> list[str]:
    """List the names that requests may give as their `Host`: of loopback, and of the address that is listened on."""
    given = [host]
    if host in WILDCARDS:
        given = [address.address for addresses in psutil.net_if_addrs().values() for address in addresses]
        given.append(socket.gethostname())
    return sorted({*LOOPBACK, *(name if ":" not in name else f"[{name.strip('[]')}]" for name in given)})
