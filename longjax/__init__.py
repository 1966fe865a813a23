"""Long-context extension of LLaMA-family models, under control, in JAX."""
