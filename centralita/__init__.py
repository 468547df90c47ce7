"""Centralita builds a telephone exchange once, proves it on every hypervisor, and clones it for each tenant."""

__version__ = "0.1.0"
