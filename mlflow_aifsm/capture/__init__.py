"""Reads models, files, the host and the source code into facts; runs none of them."""
