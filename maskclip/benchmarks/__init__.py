"""Measures models on benchmarks and on folders of your own."""
