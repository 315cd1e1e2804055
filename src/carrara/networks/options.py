"""What a network's options must be, said in one way."""

from __future__ import annotations

from carrara.errors import InputError

Rule = tuple[str, object, bool, str]
"""(the option's name, its value, whether the rule holds, the rule in words)."""


def require(*rules: Rule, section: str = "network") -> None:
    """Raises InputError for the first rule that does not hold: what was given in this section of a recipe, and what it must be."""
    for name, value, holds, rule in rules:
        if not holds:
            raise InputError(f"{section}.{name} is {value}; it must be {rule}")
