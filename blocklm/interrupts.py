"""Handles Ctrl-C and SIGTERM: outside training they end the program, during training after the next checkpoint."""

import ctypes
import os
import signal
import sys
from types import FrameType

PR_SET_PDEATHSIG = 1


class Interrupted(KeyboardInterrupt):
    """The user or the system asked the program to end; `exit_code` is 128 plus the signal, as shells expect."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


class Interrupts:
    """Raises `Interrupted` at a signal, or only sets `requested` while `deferred`; a second Ctrl-C always raises it."""

    def __init__(self) -> None:
        self.deferred = False
        self.requested: int | None = None
        self._why: Exception | None = None

    def install(self) -> None:
        """Handle both signals; if `accelerate launch` ends, this process gets SIGTERM, or it would run on alone."""
        signal.signal(signal.SIGINT, self._receive)
        signal.signal(signal.SIGTERM, self._receive)
        launched = {"ACCELERATE_MIXED_PRECISION", "LOCAL_RANK"} & set(os.environ)
        if launched and sys.platform == "linux":  # a run without a launcher may outlive its shell
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    def request(self, why: Exception) -> None:
        """Request a stop, as a signal does; `raise_if_requested` raises `why`, unless a signal came before."""
        if self.requested is None:
            self.requested, self._why = signal.SIGTERM, why

    def raise_if_requested(self) -> None:
        """Raise the error of a request that came while `deferred`."""
        if self.requested is not None:
            raise self._why or Interrupted(self.requested)

    def _receive(self, signum: int, _: FrameType | None) -> None:
        # Ctrl-C ends the launcher too, at whose end we get SIGTERM: that is no second request to stop.
        if self.requested is not None and signum == signal.SIGTERM:
            return
        first, self.requested = self.requested is None, signum
        if not (first and self.deferred):
            raise Interrupted(signum)
        sys.stderr.write("\nstopping after this step: saving a checkpoint (once more to stop at once)\n")
