"""Memory: where every tensor lies in the arena, so that what lives at the same time does not overlap."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from nbedge_exporters.c.layer import Program

#: of every place in the arena, in bytes
ALIGNMENT = 4
#: bytes behind the arena's last: kernels read whole words, whose last bytes count for nothing
SLACK = 4


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of memory.

    Attributes:
        name: the tensor, or the number of the layer that borrows it.
        size: bytes, a multiple of `ALIGNMENT`.
        first: layer at which it begins to be used.
        last: layer at which it ends.
    """

    name: str | int
    size: int
    first: int
    last: int

    def meets(self, other: "Block") -> bool:
        """Return whether both are used at the same time."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Memory:
    """The plan of an arena.

    Attributes:
        places: tensor -> offset in bytes.
        scratch: layer -> offset of what it borrows.
        size: bytes of the arena, without `SLACK`.
        live: bytes of all tensors that live during each layer, without scratch: their maximum is the least that any
            plan needs.
        used: the same with scratch.
    """

    places: Mapping[str, int]
    scratch: Mapping[int, int]
    size: int
    live: tuple[int, ...]
    used: tuple[int, ...]

    @property
    def peak_layer(self) -> int:
        """The layer that sets the size."""
        return self.used.index(max(self.used))


def plan(program: Program) -> Memory:
    """Place everything: the best of several orders, each block at the lowest place that is free."""
    shared = _shared(program)
    blocks = _blocks(program, shared)
    borrowed = [Block(i, _aligned(layer.scratch), i, i) for i, layer in enumerate(program.layers) if layer.scratch]
    live = _used(blocks, len(program.layers))
    used = _used([*blocks, *borrowed], len(program.layers))
    placed = _best([*blocks, *borrowed], max(used))
    size = max(placed[block.name] + block.size for block in (*blocks, *borrowed))
    names = {*program.sizes, *program.aliases}
    places = {name: placed[shared[program.root(name)]] for name in names if shared[program.root(name)] in placed}
    scratch = {block.first: placed[block.name] for block in borrowed}
    return Memory(places, scratch, size, live, used)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _uses(program: Program) -> dict[str, tuple[int, int]]:
    """Return tensor -> first and last layer of its life; the input lives from before the first one."""
    uses: dict[str, tuple[int, int]] = {program.root(program.input): (0, 0)}
    for i, layer in enumerate(program.layers):
        for name in map(program.root, (*layer.reads, layer.writes)):
            uses[name] = (uses.get(name, (i, i))[0], i)
    for name in map(program.root, program.outputs):
        uses[name] = (uses[name][0], len(program.layers))
    return uses


def _shared(program: Program) -> dict[str, str]:
    """Return tensor -> the tensor whose block it takes: itself, or an input that ends where it begins."""
    uses, taken = _uses(program), {}
    for i, layer in enumerate(program.layers):
        made, given = program.root(layer.writes), program.root(layer.shares) if layer.shares else ""
        fits = given and program.sizes[made] <= program.sizes[given] and uses[given][1] == i
        taken[made] = taken.get(given, given) if fits else made
    taken.setdefault(program.root(program.input), program.root(program.input))
    return taken


def _blocks(program: Program, shared: Mapping[str, str]) -> list[Block]:
    spans: dict[str, list[int]] = {}
    for name, (first, last) in _uses(program).items():
        span = spans.setdefault(shared[name], [first, last])
        span[0], span[1] = min(span[0], first), max(span[1], last)
    return [Block(name, _aligned(program.sizes[name]), *span) for name, span in spans.items()]


def _used(blocks: Iterable[Block], layers: int) -> tuple[int, ...]:
    found = [0] * max(layers, 1)
    for block in blocks:
        for i in range(block.first, min(block.last + 1, layers)):
            found[i] += block.size
    return tuple(found)


def _best(blocks: Sequence[Block], least: int) -> dict[str | int, int]:
    """Return the offsets of the first order that needs no more than the least, else of the best one."""
    best: tuple[int, dict[str | int, int]] = (0, {})
    for order in _orders(blocks, least):
        placed = _placed(order)
        size = max(placed[block.name] + block.size for block in blocks)
        if not best[1] or size < best[0]:
            best = (size, placed)
        if size <= least:
            break
    return best[1]


def _orders(blocks: Sequence[Block], least: int) -> Iterable[Sequence[Block]]:
    """Yield orders to place blocks in: by size, by life, and with a few of the largest ones in every order."""
    by_size = sorted(blocks, key=lambda b: (-b.size, b.first))
    yield by_size
    yield sorted(blocks, key=lambda b: (b.first, -b.size))
    yield sorted(blocks, key=lambda b: (b.first - b.last, -b.size))
    crowded = [b for b in by_size if _neighbours(b, blocks) >= least]
    chosen = (crowded or by_size)[:6]
    rest = [b for b in by_size if b not in chosen]
    for order in permutations(chosen):
        yield [*order, *rest]


def _neighbours(block: Block, blocks: Sequence[Block]) -> int:
    return sum(other.size for other in blocks if other.meets(block))


def _placed(order: Sequence[Block]) -> dict[str | int, int]:
    placed: dict[str | int, int] = {}
    done: list[Block] = []
    for block in order:
        place = 0
        for other in sorted((o for o in done if o.meets(block)), key=lambda o: placed[o.name]):
            if placed[other.name] - place >= block.size:
                break
            place = max(place, placed[other.name] + other.size)
        placed[block.name] = place
        done.append(block)
    return placed
