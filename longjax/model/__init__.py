"""LLaMA as a pure function, its placement interface, and cross-entropy. May import `methods` and what lies below."""
