"""Is this response misaligned? Verdict forms, prompting, calibration."""
