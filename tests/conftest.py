"""Tests state what is so, and not how fast: no example of a property has a time limit."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
