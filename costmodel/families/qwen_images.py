"""Image settings of the Qwen-VL families."""

from costmodel.image_rules.settings import check_equal
from costmodel.image_rules.smart_resize import read_merge_size, read_smart_resize

__all__ = ["check_equal", "read_merge_size", "read_smart_resize"]
