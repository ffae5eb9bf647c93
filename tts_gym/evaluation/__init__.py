"""Running contestants over pools: a table in, a table out."""

from tts_gym.evaluation.contestants import Contestant, contestant, find_program
from tts_gym.evaluation.playing import program_actions
from tts_gym.evaluation.policies import Policy, policy
from tts_gym.evaluation.results import Results, Row
from tts_gym.evaluation.running import BETAS, evaluate
from tts_gym.evaluation.tables import frontier_table

__all__ = [
    "BETAS",
    "Contestant",
    "Policy",
    "Results",
    "Row",
    "contestant",
    "evaluate",
    "find_program",
    "frontier_table",
    "policy",
    "program_actions",
]
