"""What a run leaves and what can be done with it; knows no run."""
