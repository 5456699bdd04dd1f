"""Critical points of a convolutional network and a transformer, embedded unit by unit."""
