"""tts-gym: test-time-scaling controllers, replayed, compared, learned and believed.

TTS is test-time scaling, not text-to-speech. Importing this package registers ``TTSReplay-v0``.
"""

import sys
from pathlib import Path

# The command line makes no environment by name, and importing Gymnasium would double the time of --help.
if Path(sys.argv[0] if sys.argv else "").stem != "tts-gym":
    from gymnasium.envs.registration import register

    register(id="TTSReplay-v0", entry_point="tts_gym.envs.tts_replay:TTSReplayEnv")
