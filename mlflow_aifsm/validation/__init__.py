"""The tool's validation of itself: faults injected into models trained on the spot, and good models that must not be accused."""
