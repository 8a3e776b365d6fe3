"""The configs, shipped as `alexnet_tf.conf` so that they are found installed and in a checkout alike."""
