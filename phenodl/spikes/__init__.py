"""Loss spikes in Adam: curvature along the training, alarms, and what follows them."""
