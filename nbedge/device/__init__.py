"""Machines that files are measured on, other than this one."""
