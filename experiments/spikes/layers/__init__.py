"""Which layers make a loss spike of Adam: those of the unstable direction, or the earliest."""
