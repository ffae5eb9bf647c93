"""tts-gym: test-time-scaling controllers, replayed, compared, learned and believed.

TTS is test-time scaling, not text-to-speech. Importing this package registers ``TTSReplay-v0``.
"""

import sys
from pathlib import Path

# The command line makes no environment by name, and importing Gymnasium would triple the time of --help.
if Path(sys.argv[0] if sys.argv else "").stem != "tts-gym":
    from tts_gym import registration as registration
