"""What a run will need on a named TPU topology, found out by compiling for it without having it."""
