"""`python -m alexnet_tf` is the `alexnet` command."""

from alexnet_tf.cli import main

if __name__ == "__main__":
    main()
