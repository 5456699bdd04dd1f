"""Adam on a convolutional network for MNIST, or CIFAR-10: do alarms foretell its spikes too."""
