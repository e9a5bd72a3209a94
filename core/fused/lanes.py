"""Eight float32 numbers that are computed together, as a type of numba's compiled functions.

LLVM makes of them what the processor has: one AVX register, two of NEON. Left to itself it would
not vectorise over heads, whose loop is the innermost and short.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

LANES = 8
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)


class LanesType(types.Type):
    """Of values that `load` and `splat` make."""

    def __init__(self) -> None:
        super().__init__("Lanes")


lanes = LanesType()
EXP2 = [1.0, 0.6931471805599453, 0.24022650695910072, 0.05550410866482158]
EXP2 += [0.009618129107628477, 0.0013333558146428443, 0.00015403530393381608, 1.525273380405984e-05]
"""Of the Taylor series of two to the power of x, which is exact to float32 for abs(x) <= 1/2."""
LOG = [1.0, 1 / 3, 1 / 5, 1 / 7, 1 / 9]
"""Of the series of atanh, by odd powers: log(x) = 2 atanh((x - 1) / (x + 1)); enough for float32
where x is within a factor of sqrt(2) of one."""
MANTISSA, EXPONENT = 23, 127
HALF_ROOT = 0x3F3504F3
"""Bits of sqrt(1/2)."""


@register_model(LanesType)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def operation(code_of: Callable[..., Any]) -> Any:
    """For compiled functions; of the types of its arguments, its own type and code."""
    return intrinsic(code_of)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_VECTOR, [value] * LANES)


def _integer(value: int) -> ir.Constant:
    return ir.Constant(_INTEGERS, [value] * LANES)


def _polynomial(builder: Any, x: Any, coefficients: list[float]) -> Any:
    """The first coefficient is of the power 0."""
    found = _constant(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        found = _call(builder, "fmuladd", [found, x, _constant(coefficient)])
    return found


def _pointer(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), _VECTOR.as_pointer())


@operation
def load(typing: Any, array: Any, at: Any) -> Any:
    """The eight numbers of a flat float32 array from place `at` on."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        return builder.load(pointer, align=4)

    return lanes(array, types.intp), code


@operation
def store(typing: Any, array: Any, at: Any, value: Any) -> Any:
    """Into a flat float32 array from place `at` on."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        builder.store(args[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), code


@operation
def splat(typing: Any, value: Any) -> Any:
    """Eight times the same number."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, args[0])

    return lanes(types.float32), code


@operation
def splat_from(typing: Any, array: Any, at: Any) -> Any:
    """Eight times the number at this place of a flat float32 array."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return _splat(builder, builder.load(builder.gep(data, [args[1]]), align=4))

    return lanes(array, types.intp), code


def _splat(builder: Any, number: Any) -> Any:
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    one = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(_INTEGERS, [0] * LANES))


def _call(builder: Any, name: str, args: list[Any]) -> Any:
    kind = ir.FunctionType(_VECTOR, [a.type for a in args])
    return builder.call(
        builder.module.declare_intrinsic(f"llvm.{name}.v{LANES}f32", fnty=kind), args
    )


@operation
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, in one step where the processor has one."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _call(builder, "fmuladd", list(args))

    return lanes(lanes, lanes, lanes), code


def _binary(name: str) -> Callable[..., Any]:
    def code_of(typing: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, name)(*args)

        return lanes(lanes, lanes), code

    return operation(code_of)


add, subtract = _binary("fadd"), _binary("fsub")
multiply, divide = _binary("fmul"), _binary("fdiv")


def _chosen(comparison: str) -> Callable[..., Any]:
    def code_of(typing: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.select(builder.fcmp_ordered(comparison, *args), *args)

        return lanes(lanes, lanes), code

    return operation(code_of)


larger, smaller = _chosen(">"), _chosen("<")


@operation
def root(typing: Any, x: Any) -> Any:
    """The square root of each."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _call(builder, "sqrt", list(args))

    return lanes(lanes), code


@operation
def exp2_above(typing: Any, x: Any, least: Any) -> Any:
    """Two to the power of each x from `least` on; 0 of smaller ones. `least` is above -126."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, least = args
        whole = _call(builder, "rint", [x])
        power = _polynomial(builder, builder.fsub(x, whole), EXP2)
        biased = builder.add(builder.fptosi(whole, _INTEGERS), _integer(EXPONENT))
        scale = builder.bitcast(builder.shl(biased, _integer(MANTISSA)), _VECTOR)
        above = builder.fcmp_ordered(">", x, least)
        return builder.select(above, builder.fmul(power, scale), _constant(0.0))

    return lanes(lanes, lanes), code


@operation
def log2(typing: Any, x: Any) -> Any:
    """The binary logarithm of positive normal numbers."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], _INTEGERS)
        # Powers count from sqrt(1/2) on, so that what is left is near one.
        above = builder.sub(bits, _integer(HALF_ROOT))
        power = builder.ashr(above, _integer(MANTISSA))
        near = builder.bitcast(builder.sub(bits, builder.shl(power, _integer(MANTISSA))), _VECTOR)
        one = _constant(1.0)
        x = builder.fdiv(builder.fsub(near, one), builder.fadd(near, one))
        series = builder.fmul(x, _polynomial(builder, builder.fmul(x, x), LOG))
        whole = builder.sitofp(power, _VECTOR)
        return _call(builder, "fmuladd", [series, _constant(2 / math.log(2)), whole])

    return lanes(lanes), code
