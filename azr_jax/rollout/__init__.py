"""On-device sampling: continuous batching over a paged cache."""
