"""Device meshes, layouts and hosts."""
