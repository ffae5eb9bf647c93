"""Programs as files: what one must define, how it is loaded, and what its knobs are at a beta."""

from __future__ import annotations

import hashlib
import inspect
import linecache
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tts_gym.errors import ProgramError, UsageError
from tts_gym.names import nearest

Number = int | float | bool


@dataclass(frozen=True, eq=False)
class Program:
    """A loaded program.

    Attributes:
        name: what it is called in tables and messages.
        path: its file.
        source: its text.
        namespace: its module namespace, interpreted.
    """

    name: str
    path: Path
    source: str
    namespace: dict[str, Any] = field(repr=False)

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return str(self.namespace.get("__doc__") or "").strip().split("\n")[0]

    @property
    def solve(self) -> Callable[[Any, Any], int]:
        """The interpreted ``solve``."""
        return self.namespace["solve"]

    @property
    def digest(self) -> str:
        """sha256 of the source."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    def knobs(self, beta: float, overrides: Mapping[str, str | Number] | None = None) -> dict[str, Number]:
        """The knobs at ``beta``, some of them replaced by name.

        Raises:
            UsageError: beta is outside [0, 1], or an override names no knob or has the wrong type.
            ProgramError: ``schedule`` fails or returns something else than named numbers.
        """
        if not 0 <= beta <= 1:
            raise UsageError(f"beta should be between 0 and 1, found {beta:g}")
        try:
            scheduled = self.namespace["schedule"](float(beta))
        except (Exception, SystemExit) as error:
            raise ProgramError(
                f"{self.path}: schedule({beta:g}) failed{line_of(error, self.path)}: {said(error)}"
            ) from None
        if not isinstance(scheduled, dict):
            raise ProgramError(f"{self.path}: schedule should return a dict of knobs, found {type(scheduled).__name__}")
        knobs = {name: self._number(name, value, beta) for name, value in scheduled.items()}
        for name, value in (overrides or {}).items():
            if name not in knobs:
                raise UsageError(f"{self.name} has no knob '{name}'{nearest(name, knobs, 'its knobs are')}")
            knobs[name] = self._as_kind(name, value, type(knobs[name]))
        return knobs

    def _number(self, name: Any, value: Any, beta: float) -> Number:
        if hasattr(value, "item") and getattr(value, "shape", None) == ():  # a NumPy scalar
            value = value.item()
        if not isinstance(name, str) or not name.isidentifier():
            raise ProgramError(f"{self.path}: schedule({beta:g}) names a knob {name!r}, which is not an identifier")
        if not _is_number(value):
            raise ProgramError(
                f"{self.path}: schedule({beta:g}) sets knob '{name}' to {value!r}, expected a finite number"
            )
        return value

    def _as_kind(self, name: str, value: str | Number, kind: type) -> Number:
        words = {int: "a whole number", float: "a number", bool: "true or false"}
        try:
            if kind is bool:
                return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]
            number = float(value)
            whole = int(number) if kind is int else number
            if whole != number or not _is_number(whole):
                raise ValueError
            return whole
        except (KeyError, ValueError, OverflowError):
            raise UsageError(f"{self.name}: knob '{name}' should be {words[kind]}, found '{value}'") from None


def _is_number(value: Any) -> bool:
    """Whether a knob can have this value: a finite float, or a whole number of 64 bits."""
    if type(value) is float:
        return math.isfinite(value)
    return type(value) in (int, bool) and abs(value) < 2**63


def load_program(path: str | Path, name: str | None = None) -> Program:
    """Load a program from its file.

    The file is executed in this process: load only what you trust.

    Raises:
        ProgramError: it cannot be read, does not parse, fails on import, or lacks ``schedule`` or ``solve``.
    """
    path = Path(path)
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ProgramError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ProgramError(f"{path}: is not a text file") from None
    namespace: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(compile(source, str(path), "exec"), namespace)
    except SyntaxError as error:
        where = f"{path}, line {error.lineno}" if error.lineno else f"{path}"
        raise ProgramError(f"{where}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        raise ProgramError(f"{path}: cannot be loaded{line_of(error, path)}: {said(error)}") from None
    linecache.checkcache(str(path))
    for function, arguments in (("schedule", ("beta",)), ("solve", ("episode", "knobs"))):
        found = namespace.get(function)
        wanted = f"{function}({', '.join(arguments)})"
        if not inspect.isfunction(found):
            raise ProgramError(f"{path}: a program should define {wanted}")
        if len(inspect.signature(found).parameters) != len(arguments):
            raise ProgramError(f"{path}: {function} should take {len(arguments)} argument(s): {wanted}")
    return Program(name or path.stem, path, source, namespace)


def as_attributes(knobs: Mapping[str, Number]) -> SimpleNamespace:
    """Knobs as an interpreted program reads them."""
    return SimpleNamespace(**knobs)


def said(error: BaseException) -> str:
    """An exception as part of a sentence."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def line_of(error: BaseException, path: Path) -> str:
    """`` in line N`` for the innermost frame of ``error`` in the program's file."""
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" in line {line}" if line else ""
