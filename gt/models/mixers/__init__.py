"""Mixers: what carries information from one position to later ones."""
