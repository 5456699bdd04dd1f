"""Adam on a small network for sin x + sin 4x: many spikes, each announced by the curvature."""
