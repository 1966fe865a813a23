"""Parses a compiled program: its scheduled HLO, instruction by instruction."""

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
        """Returns the value of an attribute, without quotes and "%"; "" if there is none."""
        match = re.search(rf'{key}="?%?([^",\s)}}]+)', self.attrs)
        return match[1] if match else ""

    @property
    def operands(self) -> list[str]:
        """The names of the arguments."""
        return re.findall(r"%([\w.\-]+)", self.args)

    @property
    def cycles(self) -> int:
        """The compiler's own estimate; 0: it has none."""
        match = re.search(r'"estimated_cycles":"(\d+)"', self.attrs)
        return int(match[1]) if match else 0

    @property
    def source(self) -> str:
        """The path of functions and operations that the instruction was compiled from."""
        match = re.search(r'op_name="([^"]*)"', self.attrs)
        return match[1] if match else ""


ENTRY = "ENTRY"
Module = dict[str, list[Op]]  # computations by name


def arrays(type_: str) -> list[tuple[str, int]]:
    """Returns the element type and the bytes of every array in a type."""
    found = []
    for dtype, dims in ARRAY.findall(type_):
        count = 1
        for dim in dims.split(",") if dims else ():
            count *= int(dim)
        found.append((dtype, count * SIZES[dtype]))
    return found


def type_bytes(type_: str) -> int:
    """Returns the bytes of all arrays in a type."""
    return sum(bytes_ for _, bytes_ in arrays(type_))


def parse_hlo(text: str) -> Module:
    """Returns the instructions of every computation of a program."""
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
    """Yields one line an instruction, where the text of a kernel goes over several."""
    whole = ""
    for line in text.split("\n"):
        if line.startswith(("  %", "  ROOT %", "%", "ENTRY", "}")):
            yield whole
            whole = line
        else:
            whole += line
    yield whole


def instruction(line: str) -> Op:
    """Parses one instruction."""
    name, _, rest = line.strip().removeprefix("ROOT ").partition(" = ")
    end = closing_parenthesis(rest) + 1 if rest.startswith("(") else rest.index(" ")
    type_, call = rest[:end], rest[end:].lstrip()
    start = call.index("(")
    end = closing_parenthesis(call, start)
    return Op(name.lstrip("%"), type_, call[:start], call[start + 1 : end], call[end + 1 :])


def closing_parenthesis(text: str, start: int = 0) -> int:
    """Returns the index of the parenthesis that closes the one at `start`."""
    depth = 0
    for match in re.finditer(r"[()]", text[start:]):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return start + match.start()
    raise AssertionError("unbalanced parentheses in HLO")


def accessed_bytes(op: Op, module: Module, types: dict[str, str]) -> int:
    """Returns the bytes that an instruction reads and writes; of an array of which it accesses a slice, only that.

    `types` are those of all instructions by name.
    """
    if op.kind in SLICES:
        return 2 * slice_bytes(op, types)
    inner = module.get(op.attr("calls"), [])
    parameters = {o.name: type_bytes(o.type) for o in inner if o.kind == "parameter"}
    if op.kind != "fusion" or not inner:
        return type_bytes(op.type) + sum(type_bytes(types.get(name, "")) for name in op.operands)
    slices = [o for o in inner if o.kind in SLICES]
    sliced = {o.operands[0] for o in slices}
    whole = {name for o in inner if o not in slices for name in o.operands}
    read = sum(bytes_ for name, bytes_ in parameters.items() if name in whole or name not in sliced)
    updates = [o for o in slices if o.kind == "dynamic-update-slice"]
    written = type_bytes(op.type) - sum(type_bytes(o.type) for o in updates)
    return read + max(written, 0) + sum(slice_bytes(o, types) for o in slices)


def slice_bytes(op: Op, types: dict[str, str]) -> int:
    """Returns the bytes of the slice that is read or written."""
    return type_bytes(op.type if op.kind == "dynamic-slice" else types.get(op.operands[1], ""))
