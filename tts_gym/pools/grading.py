"""Which answers are correct, and which are the same answer: string equality or mathematical equivalence.

Both are decided when a pool is built and kept in the user's cache, never inside a loop. Equivalence (``math``)
is the library math-verify's, with these rules around it:

- answers that are the same string, or the same but for LaTeX spacing, ``\\left``, ``\\right`` and the size of a
  fraction, are equivalent; spaces between digits do not count, as in print;
- whole numbers in digits are compared as integers (042 is 42);
- an empty answer and the literal ``ERR`` are equivalent to nothing else, nor is an answer that cannot be parsed
  or takes longer than 5 s. Nothing can interrupt a comparison on Windows or outside the main thread.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import logging
import re
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tts_gym.errors import UsageError
from tts_gym.files import user_cache, written_whole
from tts_gym.names import nearest
from tts_gym.pools.pool import GRADINGS, Pool, Vocabulary, correct_flags

_RULES = 1  # raise when a rule of this file changes: it makes older cached results unreachable
_SECONDS = 5.0
_LONGEST = 400  # characters; anything longer is prose, and costs the parser minutes
_NO_ANSWER = "ERR"


def with_grading(pool: Pool, grading: str) -> Pool:
    """The pool, able to answer ``pool.correct(grading)``.

    Args:
        pool: any pool; one that has this grading already is returned as it is.
        grading: ``exact``, the published string equality, which every pool has; or ``math``: an answer is
            correct if it is mathematically equivalent to the gold answer (see the module).

    Raises:
        UsageError: there is no such grading, or math-verify is not installed.
    """
    if grading not in GRADINGS:
        raise UsageError(f"unknown grading '{grading}'{nearest(grading, GRADINGS, 'the gradings are')}")
    if grading == "exact" or grading in pool.graded:
        return pool
    accepted = _for_every_question(pool, "correct", _correct_codes)
    return replace(pool, graded={**pool.graded, grading: correct_flags(accepted, pool.vocabulary.offsets)})


def merge_equivalent(pool: Pool) -> Pool:
    """The pool with one code for all mathematically equivalent answers of a question, so they share a vote.

    An answer joins the first class whose first answer it is equivalent to, in vocabulary order; so classes are
    closed under equivalence through their first answers, and a class never joins another later. Codes number
    the classes in the order of their first answers. A class is shown by its first answer, or by the gold
    answer where that is a member. A class is correct, under every grading, when any of its members is; the
    merged pool has the grading ``math``.

    Args:
        pool: any pool; its recorded lengths, tokens and optional signals stay as they are.

    Raises:
        UsageError: math-verify is not installed.
    """
    pool = with_grading(pool, "math")
    first_of = _for_every_question(pool, "classes", _first_members)
    sizes = pool.vocabulary.sizes
    recode = np.full((len(sizes), max(1, pool.recording.vocabulary_size) + 1), -1, dtype=np.int16)  # [-1] stays -1
    strings: list[str] = []
    offsets = np.zeros(len(sizes) + 1, dtype=np.int64)
    graded: dict[str, list[NDArray[np.bool_]]] = {mode: [] for mode in pool.graded}
    for q, firsts in enumerate(first_of):
        kept, codes = np.unique(np.array(firsts, dtype=np.int64), return_inverse=True)
        recode[q, : len(codes)] = codes
        answers = pool.vocabulary[q]
        shown = [answers[code] for code in kept]
        if pool.gold[q] in answers:
            shown[codes[answers.index(pool.gold[q])]] = pool.gold[q]
        strings += shown
        offsets[q + 1] = offsets[q] + len(kept)
        start, stop = pool.vocabulary.offsets[q : q + 2]
        for mode, flags in pool.graded.items():
            graded[mode].append(np.bincount(codes, weights=flags[start:stop], minlength=len(kept)) > 0)
    merged = recode[np.arange(len(sizes))[:, None, None], pool.answers]
    return replace(
        pool,
        recording=replace(pool.recording, answers=merged, vocabulary_size=int(np.diff(offsets).max(initial=0))),
        vocabulary=Vocabulary(pa.array(strings, pa.string()), offsets),
        provenance={
            **pool.provenance,
            "merged": f"mathematically equivalent answers share one code ({', '.join(_versions())})",
        },
        graded={mode: np.concatenate([np.zeros(0, np.bool_), *flags]) for mode, flags in graded.items()},
    )


def _correct_codes(gold: str, answers: list[str]) -> list[int]:
    return [code for code, answer in enumerate(answers) if _is_correct(gold, answer)]


def _is_correct(gold: str, answer: str) -> bool:
    if not _says_something(answer):
        return answer == gold and bool(answer.strip())
    if _spelling(answer) == _spelling(gold):
        return True
    if not _says_something(gold):
        return False
    wanted, found = _Reading.of(gold), _Reading.of(answer)
    if wanted is None or found is None:
        return False
    if wanted.is_number and found.key[0] == "value" and found.key != wanted.key:  # verify would simplify at length
        return False
    return _verified(wanted, found)


def _first_members(gold: str, answers: list[str]) -> list[int]:
    """For every code the first code of its class."""
    same_spelling: dict[str, int] = {}
    alike: dict[tuple[Any, ...], list[int]] = {}
    firsts: list[int] = []
    for code, answer in enumerate(answers):
        first = same_spelling.setdefault(_spelling(answer), code) if _says_something(answer) else code
        reading = _Reading.of(answer) if first == code and _says_something(answer) else None
        if reading is not None:
            peers = alike.setdefault(reading.key, [])
            first = next((peer for peer in peers if _interchangeable(_Reading.of(answers[peer]), reading)), code)
            if first == code:
                peers.append(code)
            same_spelling[_spelling(answer)] = first
        firsts.append(first)
    return firsts


def _interchangeable(a: _Reading | None, b: _Reading) -> bool:
    return a is not None and (_verified(a, b) or _verified(b, a))


def _says_something(answer: str) -> bool:
    return bool(answer.strip()) and answer.strip() != _NO_ANSWER


_WHOLE = re.compile(r"[+-]?[0-9]{1,12}")
_SIZES = re.compile(r"\\(?:left|right|displaystyle)(?![A-Za-z])|\\[,!;: ]")
_FRACTION = re.compile(r"\\[dt]frac(?![A-Za-z])")
_FULL_STOP = re.compile(r"(?<!\.)\.\s*$")
_SPACE = re.compile(r"(?<!,)\s+")  # after a comma it tells the pair 1, 234 from the number 1,234


@functools.lru_cache(maxsize=1 << 13)
def _spelling(answer: str) -> str:
    """The answer without what does not change its meaning in LaTeX; whole numbers as integers."""
    answer = _FULL_STOP.sub("", answer)
    if _WHOLE.fullmatch(answer.strip()):
        return str(int(answer))
    return _SPACE.sub("", _FRACTION.sub(r"\\frac", _SIZES.sub("", answer))).strip()


@dataclass(frozen=True)
class _Reading:
    """An answer as sympy understands it, and a key that equivalent answers share.

    The key keeps comparisons few. That of a number is its value rounded to the 6 decimals at which math-verify
    compares; symbols get arbitrary fixed values; collections have the sorted keys of their elements.
    """

    expression: Any
    key: tuple[Any, ...]

    @property
    def is_number(self) -> bool:
        return self.key[0] == "value" and not self.expression.free_symbols

    @staticmethod
    @functools.lru_cache(maxsize=1 << 13)
    def of(answer: str) -> _Reading | None:
        """None where the answer cannot be parsed in time."""
        if len(answer) > _LONGEST:
            return None
        if _WHOLE.fullmatch(answer.strip()):
            import sympy

            return _Reading(sympy.Integer(int(answer)), ("value", _rounded(int(answer)), _rounded(0)))
        from math_verify import LatexExtractionConfig, parse

        text = re.sub(r"(?<=\d)\s+(?=\d)", "", answer.replace("\\$", "").replace("$", "")).replace("\n", " ")
        text = _FULL_STOP.sub("", text)
        with contextlib.suppress(_OutOfTime), _time_limit():
            found = parse(f"${text}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)
            if found:
                return _Reading(found[0], _key(found[0]))
        return None


def _verified(gold: _Reading, answer: _Reading) -> bool:
    from math_verify import verify

    with contextlib.suppress(_OutOfTime), _time_limit():
        return bool(verify(gold.expression, answer.expression, timeout_seconds=None))
    return False


def _key(expression: Any) -> tuple[Any, ...]:
    import sympy

    try:
        if isinstance(expression, sympy.Eq) and expression.lhs.is_Symbol:  # x = 5 is the answer 5
            return _key(expression.rhs)
        if isinstance(expression, sympy.Rel):
            return ("relation", *sorted(map(str, expression.free_symbols)))
        if isinstance(expression, sympy.Interval):
            return _collection_key((expression.start, expression.end))
        if isinstance(expression, (sympy.FiniteSet, sympy.Tuple)):
            return _collection_key(expression.args)
        if isinstance(expression, sympy.MatrixBase):
            return ("matrix", expression.shape, tuple(_key(entry) for entry in expression.flat()))
        if not expression.has(sympy.UnevaluatedExpr):  # a percentage: 50% may be 50 or 0.5, so it is its own kind
            values = {symbol: _value_of(str(symbol)) for symbol in expression.free_symbols}
            parts = expression.subs(values).evalf(30).as_real_imag()
            if all(part.is_Number for part in parts):
                return ("value", *map(_rounded, parts))
    except InvalidOperation:  # infinite, or too large even for a Decimal: simplifying it would take for ever
        return ("value", str(expression))
    except Exception:  # sympy raises whatever it likes on what it cannot evaluate
        pass
    return ("unevaluated", str(expression))


def _collection_key(elements: tuple[Any, ...]) -> tuple[Any, ...]:
    keys = sorted((_key(element) for element in elements), key=repr)
    return keys[0] if len(keys) == 1 else ("collection", *keys)


def _rounded(number: Any) -> str:
    value = Decimal(str(number))
    return str(value.quantize(Decimal("1e-6")) + 0) if abs(value) < 10**12 else f"{value:.14e}"


def _value_of(symbol: str) -> Any:
    import sympy

    return sympy.Rational(int.from_bytes(hashlib.sha256(symbol.encode()).digest()[:3], "big"), 1 << 22)


class _OutOfTime(BaseException):
    """Not an Exception: the libraries it has to pass through swallow those."""


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    """Raise _OutOfTime after a while, where the system can; a timer that the caller has set goes on."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> None:
        raise _OutOfTime

    handler = signal.signal(signal.SIGALRM, stop)
    started = time.monotonic()
    left, every = signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - started), 1e-3), every)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the parser and sympy have to say about answers that are no mathematics."""
    logger = logging.getLogger("math_verify")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _versions() -> list[str]:
    try:
        return [f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES]
    except importlib.metadata.PackageNotFoundError as error:
        raise UsageError(
            f"mathematical equivalence needs the package {error.name}, which is not installed; pip install math-verify"
        ) from None


_LIBRARIES = ("math-verify", "latex2sympy2_extended", "sympy")


def _for_every_question(pool: Pool, kind: str, decide: Callable[[str, list[str]], list[int]]) -> list[list[int]]:
    """``decide(gold, answers)`` of every question, from the cache where the same was decided before."""
    words = [(gold, pool.vocabulary[q]) for q, gold in enumerate(pool.gold)]
    asked = json.dumps([kind, _RULES, _versions(), words]).encode()
    path = user_cache("gradings") / hashlib.sha256(asked).hexdigest()
    with contextlib.suppress(OSError, ValueError):
        digest, _, payload = path.read_bytes().partition(b"\n")
        if digest == hashlib.sha256(payload).hexdigest().encode():
            return json.loads(payload)

    from tqdm import tqdm

    with _quiet():
        progress = tqdm(words, desc=f"{pool.name}: {kind}", unit="question", disable=None, delay=2, leave=False)
        decided = [decide(gold, answers) for gold, answers in progress]
    payload = json.dumps(decided).encode()
    with written_whole(path) as temporary:
        temporary.write_bytes(hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
    return decided
