"""Adam on a scalar quadratic: the smallest problem in which it spikes."""
