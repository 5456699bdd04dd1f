"""Predictors of loss spikes on every training that spikes: what they foretell and cost."""
