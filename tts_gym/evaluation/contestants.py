"""What an evaluation compares: programs, with some of their knobs fixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tts_gym.controllers import controller_files
from tts_gym.errors import UsageError
from tts_gym.files import is_file
from tts_gym.names import nearest
from tts_gym.programs.program import Number, Program, load_program


@dataclass(frozen=True)
class Contestant:
    """A program at some betas, with knobs fixed by name.

    Attributes:
        name: what it is called in tables, e.g. ``sc:n=64``.
        program: the program.
        overrides: knobs that do not follow beta.
    """

    name: str
    program: Program
    overrides: Mapping[str, str | Number] = field(default_factory=dict)

    def knobs(self, beta: float) -> dict[str, Number]:
        """The knobs at ``beta``; see :meth:`Program.knobs`."""
        return self.program.knobs(beta, self.overrides)


def contestant(spec: str | Path | Program | Contestant) -> Contestant:
    """A contestant from ``NAME_OR_FILE`` or ``NAME_OR_FILE:knob=value,knob=value``.

    Raises:
        UsageError: no such controller or file, or an override that is not ``knob=value``.
        ProgramError: the program does not load.
    """
    if isinstance(spec, Contestant):
        return spec
    if isinstance(spec, Program):
        return Contestant(spec.name, spec)
    spec = str(spec)
    head, colon, tail = spec.rpartition(":")
    name, settings = (head, tail) if colon and "=" in tail else (spec, "")
    overrides: dict[str, str | Number] = {}
    for setting in filter(None, settings.split(",")):
        knob, equals, value = setting.partition("=")
        if not (knob.strip() and equals and value.strip()):
            raise UsageError(f"{spec}: expected knob=value, found '{setting}'")
        overrides[knob.strip()] = value.strip()
    return Contestant(spec, find_program(name), overrides)


def find_program(name_or_path: str) -> Program:
    """A shipped controller by name, or a program by its file."""
    shipped = controller_files()
    if name_or_path in shipped:
        return load_program(shipped[name_or_path], name_or_path)
    path = Path(name_or_path)
    if path.suffix == ".py" or is_file(path):
        if not is_file(path):
            raise UsageError(f"{name_or_path}: no such program file")
        return load_program(path, name_or_path)
    raise UsageError(f"unknown controller '{name_or_path}'{nearest(name_or_path, shipped, 'the controllers are')}")
