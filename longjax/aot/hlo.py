"""What the compiler has made of a program: its scheduled HLO, instruction by instruction."""

import re
from collections.abc import Iterator
from typing import NamedTuple

SIZES = {
    "pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8,
    "u64": 8, "f64": 8, "f8e4m3fn": 1, "f8e5m2": 1,
}  # fmt: skip
ARRAY = re.compile(rf"\b({'|'.join(SIZES)})\[([0-9,]*)\]")
SLICES = ("dynamic-slice", "dynamic-update-slice")


class Op(NamedTuple):
    """One instruction: `%name = type kind(args), attrs`."""

    name: str
    type: str
    kind: str
    args: str
    attrs: str

    def attr(self, key: str) -> str:
        found = re.search(rf'{key}="?%?([^",\s)}}]+)', self.attrs)
        return found[1] if found else ""

    @property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.\-]+)", self.args)

    @property
    def cycles(self) -> int:
        """-> of the compiler's own estimate; 0: it makes none."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.attrs)
        return int(found[1]) if found else 0

    @property
    def where(self) -> str:
        """-> the place in the program that this was made for."""
        found = re.search(r'op_name="([^"]*)"', self.attrs)
        return found[1] if found else ""


ENTRY = "ENTRY"
Module = dict[str, list[Op]]  # computations by name


def arrays(kind: str) -> list[tuple[str, int]]:
    """-> element type and bytes of every array in a type."""
    found = []
    for dtype, dims in ARRAY.findall(kind):
        count = 1
        for dim in dims.split(",") if dims else ():
            count *= int(dim)
        found.append((dtype, count * SIZES[dtype]))
    return found


def size(kind: str) -> int:
    return sum(bytes_ for _, bytes_ in arrays(kind))


def parse(text: str) -> Module:
    module: Module = {}
    current: list[Op] = []
    for line in whole_lines(text):
        if line.rstrip().endswith("{") and line.startswith(("%", ENTRY)):
            name = ENTRY if line.startswith(ENTRY) else re.split(r"[\s(]", line[1:], maxsplit=1)[0]
            current = module.setdefault(name, [])
        elif " = " in line:
            current.append(instruction(line))
    return module


def whole_lines(text: str) -> Iterator[str]:
    """Kernels' own texts go over several lines."""
    line = ""
    for piece in text.split("\n"):
        if piece.startswith(("  %", "  ROOT %", "%", "ENTRY", "}")):
            yield line
            line = piece
        else:
            line += piece
    yield line


def instruction(line: str) -> Op:
    name, _, rest = line.strip().removeprefix("ROOT ").partition(" = ")
    end = closing(rest) + 1 if rest.startswith("(") else rest.index(" ")
    kind, call = rest[:end], rest[end:].lstrip()
    start = call.index("(")
    end = closing(call, start)
    return Op(name.lstrip("%"), kind, call[:start], call[start + 1 : end], call[end + 1 :])


def closing(text: str, start: int = 0) -> int:
    """-> where the parenthesis that opens at `start` closes."""
    depth = 0
    for found in re.finditer(r"[()]", text[start:]):
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            return start + found.start()
    raise AssertionError("unbalanced parentheses in HLO")


def touched(op: Op, module: Module, types: dict[str, str]) -> int:
    """-> bytes that an instruction reads and writes; of an array that it takes a slice of, or writes one into, only
    that. `types` are those of all names.
    """
    if op.kind in SLICES:
        return 2 * slice_size(op, types)
    inner = module.get(op.attr("calls"), [])
    parameters = {o.name: size(o.type) for o in inner if o.kind == "parameter"}
    if op.kind != "fusion" or not inner:
        return size(op.type) + sum(size(types.get(name, "")) for name in op.operands)
    slices = [o for o in inner if o.kind in SLICES]
    sliced = {o.operands[0] for o in slices}
    whole = {name for o in inner if o not in slices for name in o.operands}
    read = sum(bytes_ for name, bytes_ in parameters.items() if name in whole or name not in sliced)
    updates = [o for o in slices if o.kind == "dynamic-update-slice"]
    written = size(op.type) - sum(size(o.type) for o in updates)
    return read + max(written, 0) + sum(slice_size(o, types) for o in slices)


def slice_size(op: Op, types: dict[str, str]) -> int:
    """-> bytes of the slice that is taken, or written."""
    return size(op.type if op.kind == "dynamic-slice" else types.get(op.operands[1], ""))
