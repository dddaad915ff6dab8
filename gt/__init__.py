"""GroundThink: fusion ablations of small language models, from a study file to a report."""

__version__ = "0.1.0"
