"""Read ExecuTorch files (.pte): the program around XNNPACK's part, and that part (executorch/schema, program.fbs)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nbedge import files
from nbedge.errors import InputError
from nbedge.graph.flatbuffer import Table
from nbedge.graph.records import Graph, Operator, Tensor
from nbedge.graph.xnnpack import read_delegated

#: identifiers of the program, and of the header that says where its segments lie
PROGRAM, HEADER = b"ET12", b"eh00"
#: numbers of the unions KernelTypes and InstructionArguments, and of DataLocation
TENSOR, KERNEL, DELEGATE, IN_SEGMENT = 5, 1, 2, 1
#: number in ScalarType -> numpy name
DTYPES = {0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64",
          11: "bool", 15: "bfloat16"}  # fmt: skip
XNNPACK = "XnnpackBackend"
#: the method of a program that is read
FORWARD = "forward"


def read_pte(path: Path) -> Graph:
    """Read an ExecuTorch file; operators of a delegate other than XNNPACK are one operator, called by its name.

    The operators that are left to ExecuTorch's own kernels go by torch's names ("aten::mm"), with a dot before the
    overload.

    Raises:
        InputError: it is missing, damaged, or no ExecuTorch file.
    """
    content = files.existing(path, "the file").read_bytes()
    if content[4:8] != PROGRAM:
        raise InputError(f"{path} is no ExecuTorch file; export it again")
    try:
        return _Program(path, content, Table.root(content)).graph()
    except (ValueError, IndexError, KeyError, struct.error) as error:
        raise InputError(
            f"{path} is damaged, or of another version of ExecuTorch ({error}); export it again"
        ) from error


@dataclass(frozen=True, slots=True)
class _Program:
    """A file, and the table that it begins with."""

    path: Path
    content: bytes
    root: Table

    def graph(self) -> Graph:
        plan = {plan.text(0): plan for plan in self.root.tables(1)}[FORWARD]
        values = [f"value{number}" for number, _ in enumerate(plan.tables(2))]
        tensors = dict(_tensors(plan, values))
        operators: list[Operator] = []
        for instruction in (i for chain in plan.tables(5) for i in chain.tables(2)):
            self._add_(instruction, plan, values, operators, tensors)
        inputs, outputs = (tuple(values[number] for number in plan.numbers(field, "<i4")) for field in (3, 4))
        return Graph(self.path, "pte", tuple(operators), tensors, inputs, outputs)

    def _add_(
        self, instruction: Table, plan: Table, values: list[str], operators: list[Operator], tensors: dict[str, Tensor]
    ) -> None:  # fmt: skip
        kind, call = instruction.number(0, "B"), instruction.table(1)
        if call is None or kind not in (KERNEL, DELEGATE):  # moves, jumps and frees compute nothing
            return
        place, given = call.number(0, "<i"), [values[number] for number in call.numbers(1, "<i4")]
        if kind == KERNEL:
            called = list(plan.tables(6))[place]
            name = ".".join(filter(None, (called.text(0), called.text(1))))
            known = [value for value in given if value in tensors]
            operators.append(Operator(name, 1, tuple(known[:-1]), tuple(known[-1:]), label=name))
            return
        delegate = list(plan.tables(7))[place]
        if delegate.text(0) != XNNPACK:
            operators.append(Operator(delegate.text(0), 1, tuple(given), (), label=delegate.text(0)))
            return
        found = read_delegated(self._delegated(delegate), f"xnnpack{place}", given, self._named)
        operators.extend(found.operators)
        tensors |= found.tensors

    def _delegated(self, delegate: Table) -> bytes:
        """Return what a delegate keeps in the file."""
        kept = delegate.table(1)
        place = kept.number(1) if kept else 0
        if kept and kept.number(0, "b") == IN_SEGMENT:
            return self._segment(place)
        return bytes(list(self.root.tables(3))[place].numbers(0, "u1"))

    def _named(self, key: str) -> bytes:
        """Return data that a delegate keeps outside of it."""
        return self._segment({named.text(0): named.number(1) for named in self.root.tables(7)}[key])

    def _segment(self, number: int) -> bytes:
        if self.content[8:12] != HEADER:
            raise ValueError("it does not say where its segments are")
        segment = list(self.root.tables(4))[number]
        start = struct.unpack_from("<Q", self.content, 24)[0] + segment.number(0, "<Q")
        return self.content[start : start + segment.number(1, "<Q")]


def _tensors(plan: Table, values: list[str]) -> Iterator[tuple[str, Tensor]]:
    for name, value in zip(values, plan.tables(2), strict=True):
        held = value.table(1)
        if held and value.number(0, "B") == TENSOR:
            yield name, Tensor(name, tuple(map(int, held.numbers(2, "<i4"))), DTYPES[held.number(0, "b")])
