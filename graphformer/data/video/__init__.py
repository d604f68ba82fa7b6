"""Video data sets: clips cut into patches of space and time."""
