"""Predictors and controllers of loss spikes, held against each other on the same trainings."""
