"""Every controller of loss spikes and every rival of theirs, on every training that spikes."""
