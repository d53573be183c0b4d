"""Arm Cortex-M cores: how C is compiled for each, and the board on which qemu runs it. Imports nothing heavy."""

from dataclasses import dataclass

from nbedge.errors import InputError

_KB = 1024
_MB = 1024 * _KB


@dataclass(frozen=True, slots=True)
class Region:
    """A piece of memory: its first address, and its size in bytes."""

    origin: int
    length: int

    @property
    def script(self) -> str:
        """What a linker script says of it; without its spaces ld reads a number with a unit as one word."""
        return f"ORIGIN = {self.origin:#x}, LENGTH = {self.length:#x}"


@dataclass(frozen=True, slots=True)
class Core:
    """One core.

    Attributes:
        name: as people call it.
        flags: of arm-none-eabi-gcc, for this core alone.
        board: of qemu-system-arm.
        vectors: where the board looks for the table of exceptions.
        flash: where code and constants lie.
        ram: where variables and stacks lie.
        note: what to know of its figures; empty if nothing.
    """

    name: str
    flags: tuple[str, ...]
    board: str
    vectors: Region
    flash: Region
    ram: Region
    note: str = ""

    @property
    def memory(self) -> str:
        """The MEMORY command of a linker script."""
        regions = {"VECTORS (rx)": self.vectors, "FLASH (rx)": self.flash, "RAM (rwx)": self.ram}
        lines = "".join(f"  {name} : {region.script}\n" for name, region in regions.items())
        return f"MEMORY\n{{\n{lines}}}\n"


_VECTORS = Region(0, _KB)
# the boards called MPS2: two memories of 4 MB for code and for data
_MPS2 = (_VECTORS, Region(_KB, 4 * _MB - _KB), Region(0x2000_0000, 4 * _MB))
# MPS3 with a Cortex-M55: the memory at 0 holds 512 KB, too little for some models; the next one 2 MB, as that for data
_MPS3 = (_VECTORS, Region(0x0100_0000, 2 * _MB), Region(0x2100_0000, 2 * _MB))

#: name -> core, small ones first
CORES = {
    core.name: core
    for core in (
        Core("cortex-m0plus", ("-mcpu=cortex-m0plus", "-mthumb"), "mps2-an385", *_MPS2,
             note="compiled for Cortex-M0+ and run on a Cortex-M3, which executes the same instructions"),
        Core("cortex-m3", ("-mcpu=cortex-m3", "-mthumb"), "mps2-an385", *_MPS2),
        Core("cortex-m4", ("-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"), "mps2-an386",
             *_MPS2),
        Core("cortex-m7", ("-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard"), "mps2-an500",
             *_MPS2),
        Core("cortex-m55", ("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard"), "mps3-an547", *_MPS3),
    )
}  # fmt: skip


def core_of(name: str) -> Core:
    """Return a core.

    Raises:
        InputError: there is none of that name.
    """
    if name not in CORES:
        raise InputError(f"no core is called {name!r}; choose from {', '.join(CORES)}")
    return CORES[name]
