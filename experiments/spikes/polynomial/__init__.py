"""Adam on θ^p: linear convergence to a degenerate minimum, or spikes, or swings of a fixed size."""
