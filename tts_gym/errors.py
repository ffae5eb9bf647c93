"""Every error this package raises on purpose, under one base class."""

from __future__ import annotations


class TTSGymError(Exception):
    """Base of all errors raised on purpose. Its text is one sentence that names what and where.

    ``exit_code`` is what the command line returns for it: 2 for a wrong request, 1 for bad data.
    """

    exit_code = 1


class UsageError(TTSGymError):
    """What was asked for is not possible: an unknown name, a value out of range, a missing extra."""

    exit_code = 2


class PoolError(TTSGymError):
    """Recorded data that is missing, damaged, of another version, or not what it claims to be."""


class IllegalMove(TTSGymError):
    """A move the engine refuses. It costs nothing and changes nothing."""


class ProgramError(TTSGymError):
    """A program that does not load, does not compile, or fails while it runs."""


class PolicyError(TTSGymError):
    """A policy that does not load, fails while it acts, or never answers."""


class ResultsError(TTSGymError):
    """Results that are missing, damaged, incomplete, or not comparable with the others given."""
