"""What only the CompCars dataset needs (Yang et al., CVPR 2015, arXiv:1506.08959)."""
