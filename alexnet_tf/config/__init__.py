"""Configuration: the schema of every group, composition with Hydra, and the checks that need no TensorFlow."""
