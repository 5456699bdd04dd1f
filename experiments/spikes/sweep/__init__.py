"""How many loss spikes Adam makes, and how high, over its hyper-parameters and the network's."""
