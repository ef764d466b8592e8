"""Weights as a checkpoint's files hold them: true bytes, part by part."""

from __future__ import annotations

from costmodel.specs.base import Count, Frozen

__all__ = ["StoredPart", "StoredWeights"]


class StoredPart(Frozen):
    """Tensors of one part of a model.

    Attributes
    ----------
    wide_elements
        Weights in 16 bits or more, which an engine holds in the format that it runs in.
    packed_bytes
        Bytes of everything else (quantised weights and their scales), which it holds as they are.
    format
        Number format of most of the bytes, as the file names it.
    """

    tensors: Count = 0
    wide_elements: Count = 0
    packed_bytes: Count = 0
    format: str = ""

    def held_bytes(self, wide: float) -> float:
        """Bytes on a device that runs in a format of ``wide`` bytes."""
        return self.packed_bytes + wide * self.wide_elements


class StoredWeights(Frozen):
    """A checkpoint's tensors.

    Attributes
    ----------
    layers, experts
        Decoder layers without their routed experts, and these.
    other
        Tensors of the decoder around layers and tables; towers that no request of images and text runs.
    not_held
        Tensors that no engine loads for plain decoding: draft heads, tables of rotations.
    """

    vision: StoredPart = StoredPart()
    connector: StoredPart = StoredPart()
    embedding: StoredPart = StoredPart()
    layers: StoredPart = StoredPart()
    experts: StoredPart = StoredPart()
    head: StoredPart = StoredPart()
    other: StoredPart = StoredPart()
    not_held: StoredPart = StoredPart()

    def parts(self) -> dict[str, StoredPart]:
        """Every part by its name."""
        return {name: getattr(self, name) for name in StoredWeights.model_fields}

    def shared_bytes(self, wide: float) -> float:
        """Bytes of the language model, which tensor parallelism shares out."""
        return sum(part.held_bytes(wide) for part in (self.embedding, self.layers, self.experts, self.head, self.other))

    def repeated_bytes(self, wide: float) -> float:
        """Bytes that every device holds: vision tower and connector."""
        return self.vision.held_bytes(wide) + self.connector.held_bytes(wide)
