"""Leaving the house: a trained model as a folder that other libraries load, and such a folder as the start of a run."""
