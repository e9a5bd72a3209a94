"""Eight or sixteen float32 numbers that are computed together, as types of numba's compiled
functions.

LLVM makes of them what the processor has: one or two AVX registers, two or four of NEON. Left to
itself it would not vectorise over heads or queries, whose loop is the innermost and short.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

LANES, WIDE = 8, 16
_INDEX = ir.IntType(32)


class LanesType(types.Type):
    """Of values that `load` and `splat` make, and their wide twins."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(f"Lanes({width})")


EXP2 = [1.0, 0.6931471805599453, 0.24022650695910072, 0.05550410866482158]
EXP2 += [0.009618129107628477, 0.0013333558146428443, 0.00015403530393381608, 1.525273380405984e-05]
"""Of the Taylor series of two to the power of x, which is exact to float32 for abs(x) <= 1/2."""
LOG = [1.0, 1 / 3, 1 / 5, 1 / 7, 1 / 9]
"""Of the series of atanh, by odd powers: log(x) = 2 atanh((x - 1) / (x + 1)); enough for float32
where x is within a factor of sqrt(2) of one."""
MANTISSA, EXPONENT = 23, 127
HALF_ROOT = 0x3F3504F3
"""Bits of sqrt(1/2)."""


def vector(width: int) -> ir.VectorType:
    return ir.VectorType(ir.FloatType(), width)


def _integers(width: int) -> ir.VectorType:
    return ir.VectorType(_INDEX, width)


@register_model(LanesType)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, vector(kind.width))


def operation(code_of: Callable[..., Any]) -> Any:
    """For compiled functions; of the types of its arguments, its own type and code."""
    return intrinsic(code_of)


def constant(value: float, like: Any) -> ir.Constant:
    """As many times as the vector `like` has numbers."""
    return ir.Constant(vector(like.type.count), [value] * like.type.count)


def _integer(value: int, like: Any) -> ir.Constant:
    return ir.Constant(_integers(like.type.count), [value] * like.type.count)


def _polynomial(builder: Any, x: Any, coefficients: list[float]) -> Any:
    """The first coefficient is of the power 0."""
    found = constant(coefficients[-1], x)
    for coefficient in coefficients[-2::-1]:
        found = call(builder, "fmuladd", [found, x, constant(coefficient, x)])
    return found


def address(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Of the number at this place of a flat array."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def as_vector(builder: Any, pointer: Any, width: int) -> Any:
    """The pointer to a number as one to the vector that begins with it."""
    return builder.bitcast(pointer, vector(width).as_pointer())


def _loads(width: int) -> Any:
    def code_of(typing: Any, array: Any, at: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = address(context, builder, signature.args[0], args[0], args[1])
            return builder.load(as_vector(builder, pointer, width), align=4)

        return LanesType(width)(array, types.intp), code

    return operation(code_of)


load, load_wide = _loads(LANES), _loads(WIDE)
"""The numbers of a flat float32 array from a place on."""


@operation
def store(typing: Any, array: Any, at: Any, value: Any) -> Any:
    """Into a flat float32 array from place `at` on."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = address(context, builder, signature.args[0], args[0], args[1])
        builder.store(args[2], as_vector(builder, pointer, value.width), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), code


def _splats(width: int) -> Any:
    def code_of(typing: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return spread(builder, args[0], width)

        return LanesType(width)(types.float32), code

    return operation(code_of)


splat, splat_wide = _splats(LANES), _splats(WIDE)
"""The same number in each place."""


@operation
def splat_from(typing: Any, array: Any, at: Any) -> Any:
    """Eight times the number at this place of a flat float32 array."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = address(context, builder, signature.args[0], args[0], args[1])
        return spread(builder, builder.load(pointer, align=4), LANES)

    return LanesType(LANES)(array, types.intp), code


def spread(builder: Any, number: Any, width: int) -> Any:
    """A vector of `width` times the same number."""
    nothing = ir.Constant(vector(width), ir.Undefined)
    one = builder.insert_element(nothing, number, ir.Constant(_INDEX, 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(_integers(width), [0] * width))


def call(builder: Any, name: str, args: list[Any]) -> Any:
    """One of LLVM's functions, from vectors to one like the first."""
    kind = ir.FunctionType(args[0].type, [a.type for a in args])
    name = f"llvm.{name}.v{args[0].type.count}f32"
    return builder.call(builder.module.declare_intrinsic(name, fnty=kind), args)


@operation
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, in one step where the processor has one."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return call(builder, "fmuladd", list(args))

    return a(a, a, a), code


def _binary(name: str) -> Callable[..., Any]:
    def code_of(typing: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, name)(*args)

        return a(a, a), code

    return operation(code_of)


add, subtract = _binary("fadd"), _binary("fsub")
multiply, divide = _binary("fmul"), _binary("fdiv")


def _chosen(comparison: str) -> Callable[..., Any]:
    def code_of(typing: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.select(builder.fcmp_ordered(comparison, *args), *args)

        return a(a, a), code

    return operation(code_of)


larger, smaller = _chosen(">"), _chosen("<")


@operation
def within(typing: Any, x: Any, at: Any, low: Any, high: Any) -> Any:
    """Each x whose `low` <= at < `high`, -inf for the others; `at` is one float32 for all."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, at, low, high = args
        at = spread(builder, at, x.type.count)
        after = builder.fcmp_ordered(">=", at, low)
        inside = builder.and_(after, builder.fcmp_ordered("<", at, high))
        return builder.select(inside, x, constant(-math.inf, x))

    return x(x, types.float32, x, x), code


@operation
def root(typing: Any, x: Any) -> Any:
    """The square root of each."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return call(builder, "sqrt", list(args))

    return x(x), code


@operation
def exp2_above(typing: Any, x: Any, least: Any) -> Any:
    """Two to the power of each x from `least` on; 0 of smaller ones. `least` is above -126.

    What is not a number stays so, and powers that float32 cannot hold are no smaller than 2^127.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, least = args
        most = constant(EXPONENT, x)
        held = builder.select(builder.fcmp_ordered(">", x, least), x, least)
        held = builder.select(builder.fcmp_ordered("<", held, most), held, most)
        whole = call(builder, "rint", [held])
        power = _polynomial(builder, builder.fsub(x, whole), EXP2)
        integers = _integers(x.type.count)
        biased = builder.add(builder.fptosi(whole, integers), _integer(EXPONENT, x))
        scale = builder.bitcast(builder.shl(biased, _integer(MANTISSA, x)), x.type)
        above = builder.fcmp_unordered(">", x, least)
        return builder.select(above, builder.fmul(power, scale), constant(0.0, x))

    return x(x, x), code


@operation
def log2(typing: Any, x: Any) -> Any:
    """The binary logarithm of positive normal numbers."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        given = args[0]
        bits = builder.bitcast(given, _integers(given.type.count))
        # Powers count from sqrt(1/2) on, so that what is left is near one.
        above = builder.sub(bits, _integer(HALF_ROOT, given))
        power = builder.ashr(above, _integer(MANTISSA, given))
        whole_bits = builder.shl(power, _integer(MANTISSA, given))
        near = builder.bitcast(builder.sub(bits, whole_bits), given.type)
        one = constant(1.0, given)
        x = builder.fdiv(builder.fsub(near, one), builder.fadd(near, one))
        series = builder.fmul(x, _polynomial(builder, builder.fmul(x, x), LOG))
        whole = builder.sitofp(power, given.type)
        return call(builder, "fmuladd", [series, constant(2 / math.log(2), given), whole])

    return x(x), code
