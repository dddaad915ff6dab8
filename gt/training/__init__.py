"""Training one run exactly: the optimizer, the schedule, checkpoints, and the record it leaves."""
