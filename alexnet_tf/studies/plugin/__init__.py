"""Hydra finds its plugins in the namespace `hydra_plugins`, under which this folder is installed."""
