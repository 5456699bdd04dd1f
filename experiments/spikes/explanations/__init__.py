"""What makes a loss spike of Adam: the landscape or the preconditioner."""
