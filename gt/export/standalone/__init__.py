"""What an exported folder has of its own: two classes of transformers, and stand-ins for modules that a model does without.

Each stands in for the module of gt that `gt.export.source` names: it has the same names, and needs neither pydantic, nor the
catalogue, nor a GPU's kernels. The rest of the folder is gt's own source.
"""
