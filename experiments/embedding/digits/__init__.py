"""A wide network that condenses on real digits, and the narrow one that it is."""
