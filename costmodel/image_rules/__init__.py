"""Image rules: one small file for each published image processor, from an image's size to patches and tokens.

``costmodel.specs.images`` names them all and defines the union that a model's spec holds.
"""
