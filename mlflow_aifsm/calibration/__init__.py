"""Ranges of activations from calibration data: one streaming pass, one function an estimator."""
