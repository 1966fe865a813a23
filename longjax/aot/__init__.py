"""Programs compiled ahead of time for machines that are not at hand: memory, roofline, search of meshes.

May import training and inference.
"""
