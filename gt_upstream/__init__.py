"""The repository that GroundThink studied first: the mixers that it ran, and the tests that it held its networks against.

A plug-in: `gt` finds what is in here by the same entry points as what any laboratory adds, and does not import it.
"""
