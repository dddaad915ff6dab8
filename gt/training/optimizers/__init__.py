"""Optimizers, one class each: `Optimizer` says what a class needs to be one."""
