"""The verbs: freeze and quantize."""
