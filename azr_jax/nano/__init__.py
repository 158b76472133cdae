"""A small world of programs, a small model that knows only it, and so a bed on which self-play learns in minutes."""
