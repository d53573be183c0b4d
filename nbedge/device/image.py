"""An image: generated C linked with the harness for a microcontroller, and what of the model is in it."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbedge.device.cores import Core
from nbedge.device.microcontroller import GCC, Toolchain
from nbedge.errors import ExportError, InputError

#: where the harness lies
BOARD = Path(__file__).with_name("board")
OPTIMIZATIONS = ("-O2", "-O3", "-Os")
#: files of the generated folder that are no part of the library
BESIDE = ("example.c", "golden.c")
#: of the generated C as of the harness; every function and constant gets a section, so that what is unused is left out
_FLAGS = ("-std=c99", "-ffunction-sections", "-fdata-sections")
#: the loops of the harness stay loops: it may not call the library
_HARNESS = ("-std=gnu99", "-O2", "-ffunction-sections", "-fdata-sections", "-fno-tree-loop-distribute-patterns")
#: sections that are stored in flash
_STORED = (".text", ".rodata", ".data", ".ARM.extab", ".ARM.exidx")
_PLACED = re.compile(r"^ (\.\S+)\s+0x[0-9a-f]+\s+0x([0-9a-f]+) (\S.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Image:
    """A linked program.

    Attributes:
        elf: the file.
        flash_bytes: of the model: code, constants and initial values that the linker has kept of the library's files,
            and what these pull from the compiler's own libraries; no alignment, harness, vectors or golden answers.
        code_bytes: the code among them.
        arena_bytes: of the array NAME_arena.
        symbols: name -> address, without Thumb's bit.
    """

    elf: Path
    flash_bytes: int
    code_bytes: int
    arena_bytes: int
    symbols: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Library:
    """Generated C, compiled for a core.

    Attributes:
        folder: of the sources.
        name: of the model.
        core: compiled for.
        optimization: level.
        tools: that compile it.
        objects: source -> object file, all but those `BESIDE`.
        golden: the object file of the golden answers.
    """

    folder: Path
    name: str
    core: Core
    optimization: str
    tools: Toolchain
    objects: Mapping[str, Path]
    golden: Path


def refuse_optimization(level: str) -> None:
    """Refuse what is no level of optimization.

    Raises:
        InputError: it is none.
    """
    if level not in OPTIMIZATIONS:
        raise InputError(f"no level of optimization is called {level!r}; choose from {', '.join(OPTIMIZATIONS)}")


def compiled(folder: Path, name: str, core: Core, optimization: str, tools: Toolchain, build: Path) -> Library:
    """Compile the sources of a folder that the C exporter wrote, into the folder `build`.

    Raises:
        ExportError: the compiler refuses them.
        InputError: there is no such level of optimization.
    """
    refuse_optimization(optimization)
    sources = sorted(path for path in folder.glob("*.c") if path.name not in BESIDE)
    flags = (*core.flags, *_FLAGS, optimization)
    objects = {source.name: _compiled(source, build, tools, flags) for source in sources}
    golden = _compiled(folder / "golden.c", build, tools, flags)
    return Library(folder, name, core, optimization, tools, objects, golden)


def linked(
    library: Library, build: Path, vectors: tuple[str, str] = ("0", "GOLDEN_COUNT"), marks: bool = False
) -> Image:
    """Link the library with the harness that runs golden vectors from the first to before the last.

    Args:
        library: the model.
        build: an empty folder for what is made.
        vectors: numbers of these two.
        marks: whether symbols nbedge_after_LAYER_... show where each layer ends.

    Raises:
        ExportError: the compiler or linker refuses it.
        InputError: the board has too little memory for it.
    """
    objects = dict(library.objects)
    if marks:
        flags = (*library.core.flags, *_FLAGS, library.optimization, "-include", str(BOARD / "marks.h"))
        source = f"{library.name}.c"
        objects[source] = _compiled(library.folder / source, build, library.tools, flags)
    elf, placed = build / "image.elf", build / "image.map"
    (build / "memory.ld").write_text(library.core.memory, encoding="ascii")
    harness = _harness(library, build, vectors)
    command = [
        library.tools.gcc, *library.core.flags, "-nostartfiles", "-Wl,--gc-sections", "-Xlinker", f"-Map={placed}",
        "-T", str(build / "memory.ld"), "-T", str(BOARD / "sections.ld"),
        *map(str, (*harness, *objects.values(), library.golden)), "-o", str(elf),
    ]  # fmt: skip
    _run(command, library.core)
    sizes = _sizes(placed.read_text(encoding="utf-8"), (*harness, library.golden))
    symbols = _symbols(elf, library.tools)
    arena = symbols.get(f"{library.name}_arena", (0, 0))[1]
    return Image(elf, *sizes, arena, {name: address & ~1 for name, (address, _) in symbols.items()})


def _harness(library: Library, build: Path, vectors: tuple[str, str]) -> list[Path]:
    name, upper = library.name, library.name.upper()
    lines = (
        f'#include "{name}.h"', '#include "golden.h"', f"#define SUBJECT_INVOKE {name}_invoke",
        f"#define SUBJECT_INPUT {name}_input", f"#define SUBJECT_OUTPUT {name}_output",
        f"#define SUBJECT_INPUT_BYTES {upper}_INPUT_BYTES", f"#define SUBJECT_OUTPUT_BYTES {upper}_OUTPUT_BYTES",
        f"#define FIRST {vectors[0]}", f"#define LAST {vectors[1]}",
    )  # fmt: skip
    (build / "subject.h").write_text("\n".join(lines) + "\n", encoding="utf-8")
    flags = (*library.core.flags, *_HARNESS, f"-I{build}", f"-I{library.folder}")
    return [_compiled(BOARD / source, build, library.tools, flags) for source in ("startup.c", "harness.c")]


def _compiled(source: Path, build: Path, tools: Toolchain, flags: Sequence[str]) -> Path:
    made = build / f"{source.stem}.o"
    _run([tools.gcc, *flags, "-c", str(source), "-o", str(made)])
    return made


def _run(command: Sequence[str], core: Core | None = None) -> None:
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if not done.returncode:
        return
    if core and "overflowed" in done.stderr:
        raise InputError(
            f"the model is too large for {core.board}, which has {core.flash.length >> 10} KB for code and constants "
            f"and {core.ram.length >> 10} KB for the arena; choose another core, or a smaller model"
        )
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith("collect2")]
    said = [line for line in lines if "error" in line or "undefined" in line] or lines or [f"status {done.returncode}"]
    what = re.sub(r"/\S*/", "", said[0])  # folders that are thrown away
    raise ExportError(f"{GCC} refuses the generated C: {what}")


def _sizes(placed: str, others: Sequence[Path]) -> tuple[int, int]:
    """Return what the linker's map says of the bytes in flash, and of the code in them, of all files but `others`."""
    kept = placed.partition("Linker script and memory map")[2].replace("\r", "")
    joined = re.sub(r"^( \.\S+)\n +0x", r"\1 0x", kept, flags=re.MULTILINE)
    found = [
        (section, int(size, 16)) for section, size, file in _PLACED.findall(joined)
        if section.startswith(_STORED) and file not in map(str, others)
    ]  # fmt: skip
    return sum(size for _, size in found), sum(size for section, size in found if section.startswith(".text"))


def _symbols(elf: Path, tools: Toolchain) -> dict[str, tuple[int, int]]:
    """Return name -> (address, size) of the symbols."""
    done = subprocess.run([tools.nm, "-S", str(elf)], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    return {row[-1]: (int(row[0], 16), int(row[1], 16) if len(row) == 4 else 0) for row in rows if len(row) > 2}
