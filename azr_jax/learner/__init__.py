"""From rollouts to better weights: advantages, packing, objective, step, checkpoint."""
