"""Language models, from a `ModelSpec`: mixers, fusions, feed-forward layers, blocks, and the model around them."""
