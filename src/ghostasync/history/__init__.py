"""Earlier runs, as their journals and reports tell them."""
