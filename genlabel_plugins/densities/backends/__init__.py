"""Density backends: one file each."""
