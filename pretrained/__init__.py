"""Pretrained weights (safetensors) and their cards (JSON)."""
