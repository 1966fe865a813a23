"""The look of all figures: panels of curves, heat maps, scatter plots, labels. Imports methods and training."""
