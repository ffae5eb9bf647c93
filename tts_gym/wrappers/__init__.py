"""Wrappers of ``TTSReplay-v0``; the same names for the vector environment are in ``tts_gym.wrappers.vector``."""

from tts_gym.wrappers.beta_conditioning import BetaConditioning, cost_weight
from tts_gym.wrappers.mask_in_observation import MaskInObservation
from tts_gym.wrappers.record_traces import RecordTraces

__all__ = ["BetaConditioning", "MaskInObservation", "RecordTraces", "cost_weight"]
