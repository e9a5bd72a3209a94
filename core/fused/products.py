"""Small matrix products with their sums in registers, of float32.

`products(a, at, row, step, b, begin, pace, c, to, line, count, steps, wide, fresh)` computes

    c[to + t * line + x] (+)= sum over s of a[at + t * row + s * step] * b[begin + s * pace + x]

for t below `count` and x below `wide`, a multiple of 16; where `fresh` the sums replace what c
holds, else they are added to it once they are complete: a sum of many products loses less in
stretches. All three are flat. Numbers of `a` are taken one by one and spread over a register, so
that `a` may lie in memory in any order; those of `b` and `c` lie in stretches of 16.

A tile of c is held in registers while s runs, as in Goto and van de Geijn (2008,
doi:10.1145/1356052.1356053), without their packing: what attention multiplies is small and lies in
the cache.
"""

from __future__ import annotations

import itertools
from typing import Any, cast

from llvmlite import binding, ir
from numba import config, types

from core.fused.compiling import helper
from core.fused.lanes import WIDE, address, as_vector, call, constant, operation, spread, vector

_PLACE = ir.IntType(64)


def _tile() -> tuple[int, int]:
    """Numbers of `a`, and vectors of `b`, whose products fill the registers of this processor."""
    named = cast("Any", config).CPU_NAME  # another one than this, by NUMBA_CPU_NAME
    wide = not named and binding.get_host_cpu_features().get("avx512f", False)
    return (8, 2) if wide else (6, 1)


TALL, ACROSS = _tile()


def _tile_of(tall: int, across: int) -> Any:
    """The products of one tile, for compiled functions."""

    def code_of(
        typing: Any, a: Any, at: Any, row: Any, step: Any, b: Any, begin: Any, pace: Any,
        c: Any, to: Any, line: Any, steps: Any, fresh: Any,
    ) -> Any:  # fmt: skip
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            _Tile(context, builder, signature.args, args, tall, across).write()
            return context.get_dummy_value()

        i = types.intp
        return types.void(a, i, i, i, b, i, i, c, i, i, i, types.boolean), code

    return operation(code_of)


class _Tile:
    """The loop over s, its sums as values that LLVM keeps in registers."""

    def __init__(
        self, context: Any, builder: Any, kinds: Any, args: Any, tall: int, across: int
    ) -> None:
        self.builder, self.args = builder, args
        at, self.row, self.step = args[1:4]
        self.a = address(context, builder, kinds[0], args[0], at)
        self.b = address(context, builder, kinds[4], args[4], args[5])
        c = address(context, builder, kinds[7], args[7], args[8])
        self.tall, self.across = tall, across
        self.places = [
            as_vector(builder, self._gep(c, builder.mul(args[9], _place(t)), v * WIDE), WIDE)
            for t, v in itertools.product(range(tall), range(across))
        ]

    def _gep(self, pointer: Any, by: Any, more: int) -> Any:
        return self.builder.gep(self.builder.gep(pointer, [by]), [_place(more)])

    def write(self) -> None:
        builder = self.builder
        begin = builder.block
        loop, more, end = (builder.append_basic_block() for _ in range(3))
        builder.branch(loop)
        builder.position_at_end(loop)
        s = builder.phi(_PLACE)
        s.add_incoming(_place(0), begin)
        sums = [builder.phi(vector(WIDE)) for _ in self.places]
        for one in sums:
            one.add_incoming(constant(0.0, one), begin)
        found = self._step(s, sums)
        after = builder.add(s, _place(1))
        s.add_incoming(after, loop)
        for one, value in zip(sums, found, strict=True):
            one.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", after, self.args[10]), loop, more)
        builder.position_at_end(more)
        with builder.if_else(self.args[11]) as (fresh, held):
            with fresh:
                self._store(found)
            with held:
                before = [builder.load(place, align=4) for place in self.places]
                self._store(list(map(builder.fadd, before, found)))
        builder.branch(end)
        builder.position_at_end(end)

    def _store(self, values: list[Any]) -> None:
        for place, value in zip(self.places, values, strict=True):
            self.builder.store(value, place, align=4)

    def _step(self, s: Any, sums: list[Any]) -> list[Any]:
        builder = self.builder
        a = builder.gep(self.a, [builder.mul(s, self.step)])
        offset = builder.mul(s, self.args[6])
        vectors = [
            builder.load(as_vector(builder, self._gep(self.b, offset, v * WIDE), WIDE), align=4)
            for v in range(self.across)
        ]
        found: list[Any] = []
        for t in range(self.tall):
            number = builder.load(builder.gep(a, [builder.mul(self.row, _place(t))]), align=4)
            number = spread(builder, number, WIDE)
            for one in vectors:
                found.append(call(builder, "fmuladd", [number, one, sums[len(found)]]))
        return found


def _place(value: int) -> ir.Constant:
    return ir.Constant(_PLACE, value)


def _strip_of(across: int) -> Any:
    """The products of a strip of c, so many vectors wide: tiles, then what is left line by line."""
    tile, single = _tile_of(TALL, across), _tile_of(1, across)

    @helper
    def strip(a, at, row, step, b, begin, pace, c, to, line, count, steps, fresh):
        t = 0
        while t + TALL <= count:
            tile(a, at + t * row, row, step, b, begin, pace, c, to + t * line, line, steps, fresh)
            t += TALL
        while t < count:
            single(a, at + t * row, row, step, b, begin, pace, c, to + t * line, line, steps, fresh)
            t += 1

    return strip


_broad, _narrow = _strip_of(ACROSS), _strip_of(1)


@helper
def products(a, at, row, step, b, begin, pace, c, to, line, count, steps, wide, fresh):
    """See above; `steps` is 1 or more."""
    x = 0
    while x + ACROSS * WIDE <= wide:
        _broad(a, at, row, step, b, begin + x, pace, c, to + x, line, count, steps, fresh)
        x += ACROSS * WIDE
    if x < wide:
        _narrow(a, at, row, step, b, begin + x, pace, c, to + x, line, count, steps, fresh)
