"""Conditions: labels, text, pictures or sound to the named tensors a network is conditioned on."""

CONDITIONS: dict[str, str] = {
    "none": "carrara.conditions.label:NoCondition",
    "label": "carrara.conditions.label:LabelCondition",
    "source": "carrara.conditions.source:SourceCondition",
}
