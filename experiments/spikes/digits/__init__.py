"""Adam on a small convolutional network for real digits: whose alarms foretell its loss spikes."""
