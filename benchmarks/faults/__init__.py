"""Faults that verification must catch, and correct pairs that it must accept."""
