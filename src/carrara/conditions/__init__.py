"""Conditions: labels, text, pictures or sound to the named tensors a network is conditioned on."""

CONDITIONS: dict[str, str] = {
    "none": "carrara.conditions.label:NoCondition",
    "label": "carrara.conditions.label:LabelCondition",
    "source": "carrara.conditions.source:SourceCondition",
    "text": "carrara.conditions.text:TextCondition",
}

ENCODERS: dict[str, str] = {
    "bytes": "carrara.conditions.encoders:Bytes",
    "minilm": "carrara.conditions.encoders:minilm",
}
"""Text encoders, see carrara.conditions.encoders.TextEncoder: a call without arguments makes one."""
