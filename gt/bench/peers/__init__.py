"""What a user would write in place of this project for the same work: plain JAX, transformers, FLA's layers in a loop."""
