"""The conformance tests on all components that there are here: gt's own and those of the packages beside it."""

from gt.conformance import *  # noqa: F403
