"""Everything specific to the CompCars dataset (Yang et al., CVPR 2015, arXiv:1506.08959)."""
