"""What a device must have installed to run files."""

from nbedge.errors import DeviceError

#: the oldest Python that the agent runs on
OLDEST = (3, 9)
#: as constraints.txt pins them: what is measured there is what is verified here
RUNTIMES = ("ai-edge-litert==2.3.0", "numpy==2.4.6", "onnxruntime==1.32.0")
#: the oldest Python that all of `RUNTIMES` have wheels for
OLDEST_OF_RUNTIMES = (3, 11)
#: the only runtime with wheels for 32-bit systems; they end at Python 3.11
RUNTIMES_32 = ("tflite-runtime==2.14.0", "numpy<2")
NEWEST_OF_RUNTIMES_32 = (3, 11)
#: distributions that may be to blame when a file cannot be run
DISTRIBUTIONS = ("ai-edge-litert", "onnxruntime", "tflite-runtime", "numpy")


def requirements_for(machine: str, python: tuple[int, ...]) -> tuple[str, ...]:
    """Return what pip installs on a device.

    Args:
        machine: as `uname -m` names it.
        python: version of the Python there.

    Raises:
        DeviceError: no runtime has wheels for it.
    """
    version = ".".join(map(str, python[:2]))
    if machine in ("aarch64", "x86_64"):
        if python[:2] < OLDEST_OF_RUNTIMES:
            raise DeviceError(
                f"the runtimes have no wheels for Python {version} on {machine}; install Raspberry Pi OS 12 or later "
                "there, or name an interpreter of Python 3.11 or later"
            )
        return RUNTIMES
    if machine == "armv7l":
        if not OLDEST <= python[:2] <= NEWEST_OF_RUNTIMES_32:
            raise DeviceError(
                f"no runtime has wheels for Python {version} on a 32-bit system (armv7l), the last one ends at 3.11; "
                "install the 64-bit Raspberry Pi OS there"
            )
        return RUNTIMES_32
    raise DeviceError(
        f"no runtime has wheels for a processor that calls itself {machine!r}; "
        "measure on a device with a 64-bit system (aarch64)"
    )
