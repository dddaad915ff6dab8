"""What a trained model can do, measured on held-out text."""
