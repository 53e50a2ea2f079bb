"""Runs models and returns facts."""
