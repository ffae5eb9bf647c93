"""Loads and stores on raw addresses, for Numba: the ground the compiled engine stands on.

An episode lives in one flat block of 8-byte slots and is passed around as its address. Arrays are not
passed: their reference counts would cost more than the moves themselves.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_I64 = ir.IntType(64)


def _loader(kind: ir.Type, result: types.Type) -> Any:
    def load(typingctx: Any, address: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            base = builder.inttoptr(args[0], kind.as_pointer())
            value = builder.load(builder.gep(base, [args[1]]))
            if isinstance(kind, ir.IntType) and kind.width < 64:
                value = builder.sext(value, _I64)
            return value

        return result(types.int64, types.int64), codegen

    return intrinsic(load)


def _storer(kind: ir.Type, operand: types.Type) -> Any:
    def store(typingctx: Any, address: Any, index: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            base = builder.inttoptr(args[0], kind.as_pointer())
            value = args[2]
            if isinstance(kind, ir.IntType) and kind.width < 64:
                value = builder.trunc(value, kind)
            elif isinstance(kind, ir.FloatType):
                value = builder.fptrunc(value, kind)
            builder.store(value, builder.gep(base, [args[1]]))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, operand), codegen

    return intrinsic(store)


load = _loader(_I64, types.int64)  # load(address, i): the i-th int64 behind address
load_float = _loader(ir.DoubleType(), types.float64)
load_int32 = _loader(ir.IntType(32), types.int64)
load_int16 = _loader(ir.IntType(16), types.int64)
load_int8 = _loader(ir.IntType(8), types.int64)
store = _storer(_I64, types.int64)  # store(address, i, value)
store_int32 = _storer(ir.IntType(32), types.int64)
store_int16 = _storer(ir.IntType(16), types.int64)
store_int8 = _storer(ir.IntType(8), types.int64)
store_float = _storer(ir.DoubleType(), types.float64)
store_float32 = _storer(ir.FloatType(), types.float64)


@intrinsic
def prefetch(typingctx: Any, address: Any) -> Any:
    """Ask for the cache line at ``address``, soon to be read and written."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = builder.module.globals.get("llvm.prefetch.p0") or ir.Function(
            builder.module, kind, "llvm.prefetch.p0"
        )
        numbers = [ir.Constant(number, value) for value in (1, 3, 1)]  # for writing, kept close, data
        builder.call(function, [builder.inttoptr(args[0], pointer), *numbers])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def next_random(typingctx: Any, address: Any) -> Any:
    """The next float64 in [0, 1) of NumPy's PCG64, whose state and increment (128 bits each) lie behind ``address``.

    Equal to ``numpy.random.Generator.random()``: PCG XSL-RR 128/64, the upper 53 bits.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        base = builder.inttoptr(args[0], wide.as_pointer())
        increment = builder.load(builder.gep(base, [ir.Constant(_I64, 1)]), align=8)
        state = builder.mul(builder.load(base, align=8), ir.Constant(wide, 0x2360ED051FC65DA44385DF649FCCF645))
        state = builder.add(state, increment)
        builder.store(state, base, align=8)
        high = builder.trunc(builder.lshr(state, ir.Constant(wide, 64)), _I64)
        mixed = builder.xor(high, builder.trunc(state, _I64))
        turn = builder.lshr(high, ir.Constant(_I64, 58))
        back = builder.and_(builder.neg(turn), ir.Constant(_I64, 63))
        bits = builder.or_(builder.lshr(mixed, turn), builder.shl(mixed, back))
        whole = builder.uitofp(builder.lshr(bits, ir.Constant(_I64, 11)), ir.DoubleType())
        return builder.fmul(whole, ir.Constant(ir.DoubleType(), 2.0**-53))

    return types.float64(types.int64), codegen
