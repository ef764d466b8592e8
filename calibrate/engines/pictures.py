"""Images as they travel: files on this machine, inlined into the request. Nothing is fetched from elsewhere."""

from __future__ import annotations

import base64
import binascii
import io
from pathlib import Path

from costmodel.errors import InputError
from costmodel.files import existing_file, read_bytes
from costmodel.specs.images import ImageSize

__all__ = ["data_url", "load_picture", "media_type", "random_picture"]

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}


def media_type(picture: bytes) -> str:
    """Media type by the first bytes.

    Raises
    ------
    InputError
        If they are not those of an image.
    """
    for signature, name in _SIGNATURES.items():
        if picture.startswith(signature):
            return name
    if picture[:4] == b"RIFF" and picture[8:12] == b"WEBP":
        return "image/webp"
    raise InputError(f"no image of a known kind (PNG, JPEG, GIF, BMP, WebP); it begins with {picture[:8]!r}")


def load_picture(source: str | Path) -> bytes:
    """Read an encoded image from a file or a ``data:`` URL.

    Raises
    ------
    InputError
        If it is neither, no image, or a remote address: those are not fetched.
    """
    text = str(source)
    if text.startswith("data:"):
        return _from_data_url(text)
    if "://" in text:
        scheme = text.partition(":")[0][:20]
        raise InputError(f"image with a {scheme} address: remote images are not fetched; expected a file")
    path = existing_file(Path(source))
    if path is None:
        raise InputError(f"image {text[:120]!r}: no such file")
    picture = read_bytes(path)
    media_type(picture)
    return picture


def _from_data_url(text: str) -> bytes:
    head, _, payload = text.partition(",")
    if not head.endswith(";base64"):
        raise InputError(f"image {head[:40]!r}: expected a data URL in base64")
    try:
        picture = base64.b64decode(payload, validate=True)
    except binascii.Error:
        raise InputError(f"image {head[:40]!r}: its base64 is broken") from None
    media_type(picture)
    return picture


def data_url(picture: bytes) -> str:
    """Encoded image as a ``data:`` URL."""
    return f"data:{media_type(picture)};base64,{base64.b64encode(picture).decode()}"


def random_picture(size: ImageSize, *, seed: int) -> bytes:
    """A smooth random picture as a JPEG file: about as hard to decode and resize as a photograph."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, size.height // 8), max(2, size.width // 8), 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((size.width, size.height), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()
