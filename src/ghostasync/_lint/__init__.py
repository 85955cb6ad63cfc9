"""What a script should not do, found by reading it; a leaf that knows no run."""
