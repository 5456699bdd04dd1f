"""Models as pure functions on pytrees, one module per model."""
