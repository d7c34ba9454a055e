"""People with known truth, as the benchmarks make them."""

from benchmarks.synthetic import SIZE_WH, arms_down, camera, see, stand, walking

__all__ = ["SIZE_WH", "arms_down", "camera", "see", "stand", "walking"]
