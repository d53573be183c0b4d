"""Boards: the core of each, and how much RAM in one piece and flash a program has there. Imports nothing heavy."""

from dataclasses import dataclass

from nbedge.device.cores import Core, core_of
from nbedge.errors import InputError

_KB = 1024
_MB = 1024 * _KB


@dataclass(frozen=True, slots=True)
class Board:
    """One board.

    Attributes:
        name: as people call it.
        core: one of `nbedge.device.cores.CORES`.
        ram_bytes: the largest piece of RAM without a gap: arena and stack lie in it.
        flash_bytes: what a program can have, without a bootloader that stays.
        chip: of it.
        source: of the figures: name and number of the document.
        note: which of several memories is meant, and what is taken off; empty if there is one.
    """

    name: str
    core: str
    ram_bytes: int
    flash_bytes: int
    chip: str
    source: str
    note: str = ""


#: name -> board, small cores first
BOARDS = {
    board.name: board
    for board in (
        Board("raspberry-pi-pico", "cortex-m0plus", 264 * _KB, 2 * _MB, "RP2040",
              "RP2040 Datasheet, 2.6.2; Raspberry Pi Pico Datasheet",
              "six banks that software may treat as one; the flash is a chip of its own"),
        Board("nucleo-g0b1re", "cortex-m0plus", 144 * _KB, 512 * _KB, "STM32G0B1RE", "DS13560; RM0444",
              "128 KB of the RAM where its parity check is on"),
        Board("nucleo-f103rb", "cortex-m3", 20 * _KB, 128 * _KB, "STM32F103RB", "DS5319"),
        Board("arduino-due", "cortex-m3", 96 * _KB, 512 * _KB, "SAM3X8E", "SAM3X/SAM3A Datasheet, 11057",
              "banks of 64 and 32 KB, one piece from 0x20070000"),
        Board("bbc-microbit-v2", "cortex-m4", 128 * _KB, 512 * _KB, "nRF52833", "nRF52833 Product Specification",
              "less where a Bluetooth stack has its share"),
        Board("arduino-nano-33-ble", "cortex-m4", 256 * _KB, 960 * _KB, "nRF52840", "nRF52840 Product Specification",
              "1 MB of flash without 64 KB of bootloader; less RAM where a Bluetooth stack has its share"),
        Board("nucleo-f446re", "cortex-m4", 128 * _KB, 512 * _KB, "STM32F446RE", "DS10693; RM0390",
              "SRAM1 and SRAM2, which follow each other"),
        Board("stm32f4-discovery", "cortex-m4", 128 * _KB, 1 * _MB, "STM32F407VG", "DS8626; RM0090",
              "SRAM1 and SRAM2, which follow each other; not the 64 KB of CCM RAM, which lie apart"),
        Board("sparkfun-edge", "cortex-m4", 384 * _KB, 976 * _KB, "Apollo3 Blue", "Apollo3 Blue SoC Datasheet",
              "TCM and SRAM, which follow each other; 1 MB of flash without the 48 KB of the bootloader"),
        Board("nucleo-l4r5zi", "cortex-m4", 640 * _KB, 2 * _MB, "STM32L4R5ZI", "DS12023; RM0432",
              "SRAM1, SRAM2 by its second address, and SRAM3, which follow each other"),
        Board("nucleo-f746zg", "cortex-m7", 320 * _KB, 1 * _MB, "STM32F746ZG", "DS10916; RM0385",
              "DTCM, SRAM1 and SRAM2, which follow each other"),
        Board("nucleo-h743zi", "cortex-m7", 512 * _KB, 2 * _MB, "STM32H743ZI", "DS12110; RM0433",
              "the AXI SRAM, the largest of its memories"),
        Board("teensy-4.1", "cortex-m7", 512 * _KB, 7936 * _KB, "i.MX RT1062", "IMXRT1060RM; PJRC's page of the board",
              "RAM2, all of it; RAM1 shares its 512 KB with code. 8 MB of flash without 256 KB that stay reserved"),
        Board("mps3-an547", "cortex-m55", 2 * _MB, 2 * _MB, "Corstone-300 on an FPGA", "Arm DAI 0547",
              "the SRAM at 0x01000000 instead of flash, and 2 MB of that at 0x21000000"),
    )
}  # fmt: skip


def board_of(name: str) -> Board:
    """Return a board.

    Raises:
        InputError: there is none of that name.
    """
    if name not in BOARDS:
        raise InputError(f"no board is called {name!r}; choose from {', '.join(BOARDS)}, or give --core alone")
    return BOARDS[name]


def core_for(core: str | None, board: Board | None, usual: str) -> Core:
    """Return the core that is asked for: by its name, else that of the board, else the usual one.

    Raises:
        InputError: there is none of that name, or the board has another.
    """
    found = core_of(core or (board.core if board else usual))
    if board and found.name != board.core:
        raise InputError(f"{board.name} has a {board.core}, not a {found.name}; leave --core out beside --board")
    return found
