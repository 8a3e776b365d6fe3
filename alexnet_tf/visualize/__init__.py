"""Pictures of data, and later of networks."""

from alexnet_tf.visualize.inspection import contact_sheet, difference_hash, inspect_data

__all__ = ["contact_sheet", "difference_hash", "inspect_data"]
