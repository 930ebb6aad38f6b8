"""Measures sen2chain beside its peers and beside plain decoding, in one run on the same files."""
