"""Benchmarks on disk: what they are, how official downloads become what is evaluated on."""
