"""Pictures of data, and of what a network has learned from them."""

from alexnet_tf.visualize.gallery import visualize_run
from alexnet_tf.visualize.inspection import contact_sheet, difference_hash, inspect_data

__all__ = ["contact_sheet", "difference_hash", "inspect_data", "visualize_run"]
