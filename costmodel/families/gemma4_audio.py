"""Parameters of Gemma 4's audio tower: held in memory, never run by a request of images and text."""

from __future__ import annotations

from costmodel.families.decoders import layer_count
from costmodel.families.reader import ConfigReader

__all__ = ["audio_parameters"]


def audio_parameters(config: ConfigReader, decoder_size: int) -> int:
    """Parameters of a conformer behind two convolutions, and of its map to the decoder (0 where there is none)."""
    if not config.has("audio_config"):
        return 0
    audio = config.child("audio_config")
    width, out_size = audio.integer("hidden_size"), audio.integer("output_proj_dims")
    return (
        _convolutions(audio)
        + layer_count(audio) * _layer(audio)
        + width * out_size
        + out_size
        + out_size * decoder_size
    )


def _convolutions(audio: ConfigReader) -> int:
    """Two convolutions of 3 by 3 with norms, and the map of what they leave of the spectrum."""
    channels = audio.integers("subsampling_conv_channels", lowest=1)
    before = (1, *channels)
    maps = sum(9 * a * b + b for a, b in zip(before, channels, strict=False))
    bins = 128 // 2 ** len(channels)
    return maps + channels[-1] * bins * audio.integer("hidden_size") if channels else 0


def _layer(audio: ConfigReader) -> int:
    """Two feed-forward blocks, attention with relative positions, a convolution, and their norms."""
    width, kernel = audio.integer("hidden_size"), audio.integer("conv_kernel_size")
    head_dim = audio.quotient("hidden_size", "num_attention_heads")
    feed_forward = 2 * (8 * width**2 + 2 * width)
    attention = 5 * width**2 + head_dim
    convolution = 3 * width**2 + kernel * width + 2 * width
    return feed_forward + attention + convolution + 3 * width
