"""Near-duplicate removal by 64-bit SimHash: exact, verified, and with no import from the project.

Read in this order: ``fingerprint`` (text to code), ``pairs`` (codes to near pairs), ``verify``
(the exact similarity of a pair), ``rule`` (when two texts are duplicates), ``clusters`` (keep-first
and connected components over a whole list), ``index`` (the same rule, one text at a time).
"""
