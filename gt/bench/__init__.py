"""How fast training is: candidates side by side in one process, on tokens that are noise and at the sizes of a study."""
