"""Inference: log-likelihoods, prefill and decode, batching of requests. May import sharding and evals."""
