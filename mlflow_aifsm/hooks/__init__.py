"""Ways into a log for code that is already there."""
