"""Addresses of devices, and what is installed on them."""

from pathlib import Path

import pytest

from nbedge.device.address import Address
from nbedge.device.requirements import RUNTIMES, requirements_for
from nbedge.errors import DeviceError, InputError

ROOT = Path(__file__).parent.parent


def test_addresses() -> None:
    assert Address.parse("ssh://pi@raspberrypi.local:2222") == Address("raspberrypi.local", "pi", 2222)
    assert Address.parse("ssh://MyPi") == Address("MyPi")
    assert Address.parse("ssh://pi@[fe80::1%eth0]:22/") == Address("fe80::1%eth0", "pi", 22)
    for text in ("ssh://MyPi", "ssh://pi@10.0.0.7", "ssh://pi@[::1]:2222"):
        assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "pi@host", "ssh://", "ssh://pi@", "ssh://pi@host/folder", "ssh://host:0", "ssh://host:65536", "ssh://host:ssh",
     "ssh://-oProxyCommand=x", "ssh://-x@host", "ssh://ho st", "http://host", "ssh://host?x", "ssh://[::1"],
)  # fmt: skip
def test_no_addresses(text: str) -> None:
    with pytest.raises(
        InputError, match=r"is no address of a device: .*; write ssh://user@host or ssh://user@host:port$"
    ):
        Address.parse(text)


def test_passwords_are_refused_and_not_shown() -> None:
    with pytest.raises(InputError, match="use a key") as caught:
        Address.parse("ssh://pi:secret@host:x")
    assert "secret" not in str(caught.value)


def test_requirements() -> None:
    assert requirements_for("aarch64", (3, 13)) == RUNTIMES
    assert requirements_for("armv7l", (3, 9)) == ("tflite-runtime==2.14.0", "numpy<2")
    with pytest.raises(DeviceError, match="install Raspberry Pi OS 12"):
        requirements_for("aarch64", (3, 9, 2))
    with pytest.raises(DeviceError, match="install the 64-bit Raspberry Pi OS there"):
        requirements_for("armv7l", (3, 13))
    with pytest.raises(DeviceError, match="'armv6l'"):
        requirements_for("armv6l", (3, 11))


def test_what_is_measured_with_is_what_is_pinned() -> None:
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    assert set(RUNTIMES) <= set(pinned)
