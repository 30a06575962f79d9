"""What `control` does for the bus: Redis kept as the fleet needs it, grants, lags, losses told."""
