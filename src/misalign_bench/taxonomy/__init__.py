"""The domains that prompts are labelled with: ``domains.yaml`` and its loader."""
