"""Programs to machine code: every function of the file by Numba, driven by ``driver.py``, kept on disk."""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import inspect
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numba
from numba import types

from tts_gym.engine.jit import cached_njit, code_cache
from tts_gym.errors import ProgramError
from tts_gym.files import make_folder
from tts_gym.programs import driver, native, primitives
from tts_gym.programs.program import Number, Program, load_program

_PRIMITIVES = {getattr(primitives, name): dispatcher for name, dispatcher in native.NAMESPACE.items()}
_ORDERS = types.Array(types.int32, 2, "C", readonly=True)
_DRIVE_ARGUMENTS = (types.int64[::1], _ORDERS, types.int64, types.int64[:, :, ::1], types.int64[::1])
_compiling = threading.Lock()


def compiled_driver(program: Program, knobs: Mapping[str, Number]) -> Callable[..., None]:
    """``driver.drive`` bound to the program and compiled for knobs of these names and types.

    Loaded from disk where this version compiled the same source before.

    Raises:
        ProgramError: Numba cannot compile the program; the message says what and where.
    """
    knobs_type = native.KnobsBlock(dict(knobs)).type
    with _compiling, warnings.catch_warnings():
        warnings.simplefilter("ignore", numba.core.errors.NumbaWarning)  # what matters of it comes as an error
        drive, solve = _decorated(program.source, str(program.path), _folder(program))
        try:
            drive.compile((types.int64, knobs_type, *_DRIVE_ARGUMENTS))
        except (numba.core.errors.NumbaError, numba.core.errors.UnsupportedBytecodeError) as error:
            _check_return(program, solve)  # solve itself may have compiled
            raise ProgramError(_explained(program, error)) from None
        _check_return(program, solve)
        with contextlib.suppress(OSError):  # the machine code was there, in a cache that is not ours to write
            _marker(program, knobs_type).touch()
    return drive


def _check_return(program: Program, solve: Any) -> None:
    for signature in solve.nopython_signatures:
        if not isinstance(signature.return_type, types.Integer):
            raise ProgramError(
                f"{program.path}: solve should always return an answer number or -1, found {signature.return_type}"
            )


def is_compiled(program: Program, knobs: Mapping[str, Number]) -> bool:
    """Whether machine code for this program and these knob types lies on disk."""
    return _marker(program, native.KnobsBlock(dict(knobs)).type).exists()


def compile_side_by_side(programs: Sequence[tuple[Program, Mapping[str, Number]]], processes: int) -> None:
    """Compile several programs to disk, each in a process of its own, ``processes`` at a time.

    A program that fails is left for ``compiled_driver`` to explain.
    """
    if len(programs) > 1:  # the first also compiles the engine, which the others then find
        compiled_driver(*programs[0])
    waiting = [_command(program, knobs) for program, knobs in programs[1:]]
    running: list[subprocess.Popen[bytes]] = []
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                running.append(subprocess.Popen(waiting.pop(0), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            running[0].wait()
            running = [process for process in running if process.poll() is None]
    finally:
        for process in running:
            process.kill()


def _command(program: Program, knobs: Mapping[str, Number]) -> list[str]:
    values = [f"{name}={type(value).__name__}" for name, value in knobs.items()]
    return [sys.executable, "-m", "tts_gym.programs.compilation", str(program.path), *values]


def _folder(program: Program) -> Path:
    # The path too: Numba's cache files are named after it.
    return code_cache() / hashlib.sha256(f"{program.path.resolve()}\0{program.source}".encode()).hexdigest()[:24]


def _marker(program: Program, knobs_type: native.KnobsType) -> Path:
    return _folder(program) / f"ready-{hashlib.sha256(knobs_type.name.encode()).hexdigest()[:16]}"


@lru_cache(maxsize=256)
def _decorated(source: str, path: str, folder: Path) -> tuple[Any, Any]:
    """The driver and ``solve`` as Numba dispatchers, not compiled yet."""
    make_folder(folder)
    module = ModuleType(f"tts_gym_program_{folder.name}")
    module.__file__ = path
    sys.modules[module.__name__] = module  # where Numba looks when it loads machine code from disk
    namespace = vars(module)
    exec(compile(_EmptyLists().visit(ast.parse(source, path)), path, "exec"), namespace)
    jit = cached_njit(folder, boundscheck=True)
    for name, value in list(namespace.items()):
        if isinstance(value, ModuleType) and value.__name__.startswith("tts_gym"):
            raise ProgramError(f"{path}: import the primitives by name: from tts_gym.programs import ...")
        if inspect.isfunction(value):
            if value in _PRIMITIVES:
                namespace[name] = _PRIMITIVES[value]
            elif value.__globals__ is namespace and name != "schedule":
                namespace[name] = jit(value)
    loop = FunctionType(driver.drive.__code__, {**vars(driver), "solve": namespace["solve"]}, "drive")
    return cached_njit(folder)(loop), namespace["solve"]


class _EmptyLists(ast.NodeTransformer):
    """``votes: list[int] = []`` says a type that Numba does not read; spell it out for it."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        kind = re.fullmatch(r"list\[(int|float|bool)\]", ast.unparse(node.annotation))
        if kind and isinstance(node.value, ast.List) and not node.value.elts:
            node.value = ast.copy_location(ast.parse(f"[{kind[1]}(0) for _ in range(0)]", mode="eval").body, node.value)
            ast.fix_missing_locations(node)
        return node


def _explained(program: Program, error: Exception) -> str:
    """The heart of Numba's long message, in one sentence."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    name = re.escape(program.path.name)
    line = re.search(rf'File "[^"]*{name}", line (\d+)', text) or re.search(rf"Raised from \S*{name} \((\d+)\)", text)
    says = [part.strip() for part in text.splitlines() if not re.match(r"Failed in nopython|\s*(-|>>>|$)", part)]
    where = f", line {line[1] if line else _line_of_name(program, text)}"
    heart = says[0][:300].rstrip(".:") if says else type(error).__name__
    return f"{program.path}{where}: outside the subset of Python that Numba compiles: {heart}"


def _line_of_name(program: Program, text: str) -> int:
    """Where a name that Numba does not know is used; the line of ``solve`` if that is not the trouble."""
    unknown = re.search(r"name '(\w+)' is not defined", text)
    names = (node for node in ast.walk(ast.parse(program.source)) if isinstance(node, ast.Name))
    used = [node.lineno for node in names if unknown and node.id == unknown[1]]
    return min(used, default=program.solve.__code__.co_firstlineno)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile one program to disk; the other process of :func:`compile_side_by_side`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("knobs", nargs="*")
    parsed = parser.parse_args(arguments)
    zero: dict[str, Number] = {"int": 0, "float": 0.0, "bool": False}
    compiled_driver(load_program(parsed.path), {n: zero[kind] for n, kind in (k.split("=") for k in parsed.knobs)})


if __name__ == "__main__":
    main()
