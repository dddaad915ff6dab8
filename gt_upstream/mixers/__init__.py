"""The earlier repository's mixers: those that stood in for RWKV-6 and Mamba-2, and those that it tried and left."""
