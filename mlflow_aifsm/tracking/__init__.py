"""Reading and writing MLflow runs."""
