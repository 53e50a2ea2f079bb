"""Many logs side by side: found in MLflow, ranked where they can be, and handed over as a table."""
