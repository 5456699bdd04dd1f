"""Loss spikes of a byte-level language model on real text."""
