"""Attention kernels: stock ones behind one interface (`base`), and this project's own in Pallas for NVIDIA GPUs.

May import the rest of `longjax.attention` but its back ends and `landmark`.
"""
