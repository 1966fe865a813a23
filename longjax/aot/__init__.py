"""Compiling for pods without a pod: does it fit, what does it send, how long will it take, what does it cost?"""
