"""Guardrail models as targets: own template, own output grammar, own categories (Stage II)."""
