"""Tensors, primitives and gradients of every order."""
