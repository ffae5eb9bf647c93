"""The primitives as machine code: Numba types for an episode and its knobs, and each primitive on them.

A compiled program sees these in place of the functions of ``primitives.py``, name by name. Moves and looks
are written here, over the compiled engine; everything else is compiled from its one source there.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    intrinsic,
    lower_getattr_generic,
    models,
    register_model,
    typeof_impl,
    unbox,
)
from numpy.typing import NDArray

from tts_gym.engine import compiled as engine
from tts_gym.engine.jit import cached_njit
from tts_gym.engine.memory import load
from tts_gym.errors import IllegalMove
from tts_gym.programs import primitives as p
from tts_gym.programs.program import Number


class EpisodeType(types.Type):
    """An episode in compiled code: the address of its block, and nothing a program can look into."""

    def __init__(self) -> None:
        super().__init__(name="Episode")


class KnobsType(types.Type):
    """Knobs in compiled code: the address of one 8-byte slot per knob.

    ``fields`` is a tuple of (name, kind) with kind "int", "float" or "bool".
    """

    def __init__(self, fields: tuple[tuple[str, str], ...]) -> None:
        self.fields = fields
        super().__init__(name=f"Knobs({', '.join(f'{name}: {kind}' for name, kind in fields)})")


class KnobsBlock:
    """Knob values laid out for compiled code; keep it alive while a program runs."""

    def __init__(self, knobs: dict[str, Number]) -> None:
        self.type = KnobsType(tuple((name, type(value).__name__) for name, value in knobs.items()))
        self.slots: NDArray[np.int64] = np.zeros(max(1, len(knobs)), dtype=np.int64)
        for slot, value in enumerate(knobs.values()):
            if isinstance(value, float):
                self.slots.view(np.float64)[slot] = value
            else:
                self.slots[slot] = value
        self.address: int = self.slots.ctypes.data


class _AddressModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.IntType(64))


register_model(EpisodeType)(_AddressModel)
register_model(KnobsType)(_AddressModel)
episode_type = EpisodeType()


@typeof_impl.register(KnobsBlock)
def _type_of_knobs(value: KnobsBlock, context: Any) -> KnobsType:
    return value.type


@unbox(KnobsType)
def _unbox_knobs(kind: KnobsType, value: Any, c: Any) -> Any:
    address = c.pyapi.object_getattr_string(value, "address")
    native = c.pyapi.long_as_longlong(address)
    c.pyapi.decref(address)
    return NativeValue(native, is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred()))


_NUMBA_KINDS = {"int": types.int64, "float": types.float64, "bool": types.boolean}


@infer_getattr
class _KnobsAttributes(AttributeTemplate):
    key = KnobsType

    def generic_resolve(self, kind: KnobsType, name: str) -> Any:
        return _NUMBA_KINDS.get(dict(kind.fields).get(name, ""))


@lower_getattr_generic(KnobsType)
def _read_knob(context: Any, builder: Any, kind: KnobsType, value: Any, name: str) -> Any:
    slot = [field for field, _ in kind.fields].index(name)
    held = dict(kind.fields)[name]
    pointee = ir.DoubleType() if held == "float" else ir.IntType(64)
    base = builder.inttoptr(value, pointee.as_pointer())
    loaded = builder.load(builder.gep(base, [ir.Constant(ir.IntType(64), slot)]))
    return cgutils.is_not_null(builder, loaded) if held == "bool" else loaded


@intrinsic
def as_episode(typingctx: Any, address: Any) -> Any:
    """The episode whose block is at ``address``."""
    return episode_type(types.int64), lambda context, builder, signature, args: args[0]


@intrinsic
def _address(typingctx: Any, episode: Any) -> Any:
    return types.int64(episode), lambda context, builder, signature, args: args[0]


native = cached_njit()


@njit(nogil=True, inline="always")
def _check(refusal):
    if refusal != 0:
        raise IllegalMove("illegal move")  # the block says which; see runner.py


@native
def branch(episode):
    h = _address(episode)
    _check(engine.branch(h))
    return load(h, engine.OPENED) - 1


@native
def advance(episode, i):
    h = _address(episode)
    _check(engine.advance(h, i))
    return load(engine.branch_address(h, i), engine.STATUS) == engine.FINISHED_BRANCH


@native
def probe(episode, i):
    h = _address(episode)
    _check(engine.probe(h, i))
    return load(engine.branch_address(h, i), engine.LATEST)


@native
def prune(episode, i):
    _check(engine.prune(_address(episode), i))


@native
def end_round(episode):
    _check(engine.end_round(_address(episode)))


@native
def can_branch(episode):
    return engine.why_not_branch(_address(episode)) == 0


@native
def can_advance(episode, i):
    return engine.why_not_advance(_address(episode), i) == 0


@native
def can_probe(episode, i):
    return engine.why_not_probe(_address(episode), i) == 0


@native
def opened(episode):
    return load(_address(episode), engine.OPENED)


@native
def width(episode):
    return load(_address(episode), engine.LIVE)


@native
def spent(episode):
    return load(_address(episode), engine.SPENT_TOKENS)


@njit(nogil=True, inline="always")
def _slot(episode, i, slot):
    h = _address(episode)
    if i < 0 or i >= load(h, engine.OPENED):
        raise IndexError("list index out of range")
    return load(engine.branch_address(h, i), slot)


@native
def latest(episode, i):
    return _slot(episode, i, engine.LATEST)


@native
def is_finished(episode, i):
    return _slot(episode, i, engine.STATUS) == engine.FINISHED_BRANCH


@native
def is_pruned(episode, i):
    return _slot(episode, i, engine.STATUS) == engine.PRUNED_BRANCH


@native
def is_live(episode, i):
    return _slot(episode, i, engine.STATUS) == engine.LIVE_BRANCH


@native
def live(episode):
    h = _address(episode)
    count = load(h, engine.LIVE)
    branches = [0] * count
    at = 0
    i = 0
    while at < count:
        if load(engine.branch_address(h, i), engine.STATUS) == engine.LIVE_BRANCH:
            branches[at] = i
            at += 1
        i += 1
    return branches


@native
def active_votes(episode):
    h = _address(episode)
    opened = load(h, engine.OPENED)
    votes = [0] * opened  # at its full size at once: growing takes a lock that other threads want too
    count = 0
    for i in range(opened):
        b = engine.branch_address(h, i)
        if load(b, engine.STATUS) != engine.PRUNED_BRANCH:
            votes[count] = load(b, engine.LATEST)
            count += 1
    return votes[:count] if count < opened else votes


@native
def depth(episode, i):
    return _slot(episode, i, engine.DEPTH)


@native
def spent_on(episode, i):
    return _slot(episode, i, engine.SPENT)


MOVES_AND_LOOKS = (
    branch, advance, probe, prune, end_round, can_branch, can_advance, can_probe, opened, width, live,
    latest, active_votes, is_finished, is_pruned, is_live, depth, spent, spent_on,
)  # fmt: skip
NAMESPACE: dict[str, Any] = {dispatcher.__name__: dispatcher for dispatcher in MOVES_AND_LOOKS}
"""Every primitive's compiled form, by name."""

_FROM_SOURCE = (
    p.start, p.step, p.finish, p.read, p.top_two, p.majority, p.confidence, p.ranked, p.start_many, p.prune_dissenters,
)  # fmt: skip
for _primitive in _FROM_SOURCE:
    _copy = FunctionType(_primitive.__code__, {**vars(p), **NAMESPACE}, _primitive.__name__)
    NAMESPACE[_primitive.__name__] = native(_copy)
