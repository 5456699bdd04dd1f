"""Critical points of narrow networks, embedded at random into wider ones."""
