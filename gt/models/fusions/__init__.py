"""Fusions: how the outputs of two mixers, run side by side on the same input, become one."""
