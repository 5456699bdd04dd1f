"""Adam on a transformer that learns to combine anchors: spikes seen through mini-batches."""
