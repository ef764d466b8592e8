"""Typed access to a ``config.json``: every error names the field's path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from costmodel.errors import ConfigError

__all__ = ["ConfigReader"]

# Larger than any dimension of a published model; a config beyond it is corrupt, not large.
_LARGEST_INT = 2**31


class ConfigReader:
    """A mapping inside a config, together with its path.

    Parameters
    ----------
    data
        The mapping.
    path
        Dotted path of the mapping inside the file (empty at the top).
    """

    def __init__(self, data: Mapping[str, Any], path: str = "") -> None:
        self._data = data
        self.path = path

    def path_of(self, key: str) -> str:
        """Dotted path of a field."""
        return f"{self.path}.{key}" if self.path else key

    def names(self) -> tuple[str, ...]:
        """Names of the fields."""
        return tuple(self._data)

    def has(self, key: str) -> bool:
        """Whether the field is there and not null."""
        return self._data.get(key) is not None

    def holds(self, key: str, *kinds: type) -> bool:
        """Whether the field's value is of one of these types."""
        return isinstance(self._data.get(key), kinds)

    def child(self, key: str) -> ConfigReader:
        """The mapping under ``key``.

        Raises
        ------
        ConfigError
            If it is missing or not a mapping.
        """
        value = self._data.get(key)
        if not isinstance(value, Mapping):
            raise ConfigError(self.path_of(key), _describe(value), "an object")
        return ConfigReader(value, self.path_of(key))

    def child_or_self(self, key: str) -> ConfigReader:
        """The mapping under ``key``; this one where an older config keeps the fields at its top."""
        return self.child(key) if self.has(key) else self

    def first_of(self, *keys: str) -> str:
        """The first of a field's names that is there; the first of all where none is."""
        return next((key for key in keys if self.has(key)), keys[0])

    def of_layer(self, index: int, key: str = "per_layer_config") -> ConfigReader:
        """The same mapping with what it says of one layer alone, as transformers writes it since 5.20."""
        if not self.has(key) or not self.child(key).has(str(index)):
            return self
        own = self.child(key).child(str(index))
        return ConfigReader({**self._data, **own._data}, self.path)

    def filled(self, defaults: Mapping[str, Any]) -> ConfigReader:
        """The same mapping, with values of the published config class for fields that are absent or null."""
        given = {key: value for key, value in self._data.items() if value is not None}
        return ConfigReader({**defaults, **given}, self.path)

    def integer(self, key: str, *, default: int | None = None, lowest: int = 1, highest: int = _LARGEST_INT) -> int:
        """An integer from ``lowest`` to ``highest``."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(self.path_of(key), _describe(value), "an integer")
        if not lowest <= value <= highest:
            raise ConfigError(self.path_of(key), _describe(value), f"an integer from {lowest} to {highest}")
        return value

    def quotient(self, key: str, by: str) -> int:
        """One integer field divided by another, which must divide it."""
        value, divisor = self.integer(key), self.integer(by)
        if value % divisor:
            raise ConfigError(self.path_of(key), str(value), f"a multiple of {by} {divisor}")
        return value // divisor

    def boolean(self, key: str, *, default: bool | None = None) -> bool:
        """True or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise ConfigError(self.path_of(key), _describe(value), "true or false")
        return value

    def number(self, key: str, *, default: float | None = None, lowest: float, highest: float) -> float:
        """A number from ``lowest`` to ``highest``."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(self.path_of(key), _describe(value), "a number")
        if not lowest <= value <= highest:
            raise ConfigError(self.path_of(key), _describe(value), f"a number from {lowest:g} to {highest:g}")
        return float(value)

    def text(self, key: str) -> str:
        """A string."""
        value = self._value(key, None)
        if not isinstance(value, str):
            raise ConfigError(self.path_of(key), _describe(value), "a string")
        return value

    def integers(self, key: str, *, lowest: int = 0) -> tuple[int, ...]:
        """A list of integers of at least ``lowest``."""
        value = self._value(key, None)
        if not isinstance(value, list):
            raise ConfigError(self.path_of(key), _describe(value), "a list of integers")
        items = ConfigReader({str(i): item for i, item in enumerate(value)}, self.path_of(key))
        return tuple(items.integer(str(i), lowest=lowest) for i in range(len(value)))

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self._value(key, None)
        if not isinstance(value, list):
            raise ConfigError(self.path_of(key), _describe(value), "a list of strings")
        items = ConfigReader({str(i): item for i, item in enumerate(value)}, self.path_of(key))
        return tuple(items.text(str(i)) for i in range(len(value)))

    def one_of(self, key: str, choices: tuple[str, ...], *, default: str | None = None) -> str:
        """One of a few strings."""
        value = self._value(key, default)
        if value not in choices:
            raise ConfigError(self.path_of(key), _describe(value), f"one of {', '.join(choices)}")
        return str(value)

    def pairs(self, key: str, *, lowest: int = 1, highest: int = _LARGEST_INT) -> tuple[tuple[int, int], ...]:
        """A list of pairs of integers from ``lowest`` to ``highest``."""
        value = self._value(key, None)
        if not isinstance(value, list):
            raise ConfigError(self.path_of(key), _describe(value), "a list of pairs of integers")
        items = ConfigReader({str(i): item for i, item in enumerate(value)}, self.path_of(key))
        return tuple(items.pair(str(i), lowest=lowest, highest=highest) for i in range(len(value)))

    def pair(self, key: str, *, lowest: int = 1, highest: int = _LARGEST_INT) -> tuple[int, int]:
        """A list of two integers from ``lowest`` to ``highest``."""
        value = self._value(key, None)
        if not isinstance(value, list) or len(value) != 2:
            raise ConfigError(self.path_of(key), _describe(value), "a list of two integers")
        items = ConfigReader({str(i): item for i, item in enumerate(value)}, self.path_of(key))
        first, second = (items.integer(str(i), lowest=lowest, highest=highest) for i in range(2))
        return first, second

    def _value(self, key: str, default: Any) -> Any:
        value = self._data.get(key)
        if value is not None:
            return value
        if default is None:
            raise ConfigError(self.path_of(key), "nothing" if key not in self._data else "null", "a value")
        return default


def _describe(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if value.bit_length() <= 64 else f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return f"{type(value).__name__} {text}" if len(text) <= 40 else f"{type(value).__name__} {text[:37]}..."
