"""Tests state what is so, and not how fast: no example of a property has a time limit. And they need no network."""

import os

from hypothesis import settings

# Before a library asks for it: without, each data set that is not there is asked for again and again.
os.environ["HF_HUB_OFFLINE"] = "1"
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
