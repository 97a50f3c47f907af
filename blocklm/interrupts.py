"""Ctrl-C and SIGTERM lose nothing: outside training they end the phase, during training they ask for a checkpoint."""

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
    """Turns a signal into `Interrupted`, or into `requested` while `deferred`; a second Ctrl-C always ends at once."""

    def __init__(self) -> None:
        self.deferred = False
        self.requested: int | None = None
        self._why: Exception | None = None

    def install(self) -> None:
        """Listen for both signals, and for the end of `accelerate launch`, which would leave us running alone."""
        signal.signal(signal.SIGINT, self._receive)
        signal.signal(signal.SIGTERM, self._receive)
        launched = {"ACCELERATE_MIXED_PRECISION", "LOCAL_RANK"} & set(os.environ)
        if launched and sys.platform == "linux":  # a run of its own outlives the shell that started it
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    def request(self, why: Exception) -> None:
        """Stop as at a signal, for a reason of our own, which `raise_if_requested` raises; an earlier signal wins."""
        if self.requested is None:
            self.requested, self._why = signal.SIGTERM, why

    def raise_if_requested(self) -> None:
        """Raise what was put off while `deferred`."""
        if self.requested is not None:
            raise self._why or Interrupted(self.requested)

    def _receive(self, signum: int, _: FrameType | None) -> None:
        # Ctrl-C reaches the launcher too, and its end sends us SIGTERM, which is not a second request to stop.
        if self.requested is not None and signum == signal.SIGTERM:
            return
        first, self.requested = self.requested is None, signum
        if not (first and self.deferred):
            raise Interrupted(signum)
        sys.stderr.write("\nstopping after this step: saving a checkpoint (once more to stop at once)\n")
