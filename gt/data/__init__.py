"""Text to batches: corpora, tokenizers, tokens, batches, and the n-gram lines that a model must beat."""
