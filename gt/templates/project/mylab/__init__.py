"""Our own parts of language models: mixers, fusions, feed-forward layers, corpora, optimizers, evaluations and probes.

Each kind has a module of its name here, as fusions.py, in which every class with a `name` is found.
"""
