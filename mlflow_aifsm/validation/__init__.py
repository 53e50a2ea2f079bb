"""The tool's validation of itself: faults it must find, injected on the spot, and good models it must not accuse."""
