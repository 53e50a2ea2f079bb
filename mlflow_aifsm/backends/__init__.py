"""Converters and optimizers: a native call in, a native result out."""
