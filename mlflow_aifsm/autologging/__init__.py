"""Logs of calls that a script makes anyway: exporters and quantizers are wrapped, and what they do is recorded."""
