"""Loss spikes in Adam, one folder per experiment."""
