"""The loop: seeding, one iteration, training."""
