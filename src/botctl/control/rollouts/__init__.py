"""Rolling restarts: waves, what they are judged by, and the way back."""
