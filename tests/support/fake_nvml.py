"""A driver with the GPUs that a test needs, compiled in place of NVML."""

import subprocess
from pathlib import Path

from tests.support.programs import need

GIB = 1 << 30


def fake_nvml(folder: Path, *flags: str) -> Path:
    """Build the library; returns the folder that belongs on LD_LIBRARY_PATH."""
    need("cc", "gcc libc6-dev")
    source = Path(__file__).with_suffix(".c")
    library = folder / "libnvidia-ml.so.1"
    command = ["cc", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", *flags, "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    return folder


def gpu(
    util: int = 87, used: int = 3 * GIB, celsius: int = 71, reasons: int = 0, millijoules: int = 0, mode: str = "ok"
) -> str:
    """Describe the readings of one GPU."""
    return f"{util} {used} {6 * GIB} {celsius} 160500 {reasons} {millijoules} {mode}\n"
