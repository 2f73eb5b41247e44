"""Near-duplicate removal by 64-bit SimHash: exact, verified, and with no import from the project.

Read in this order: ``fingerprint`` (text to code) and ``features`` (what of a text is hashed),
``pairs`` (codes to near pairs), ``bands`` (why none is missed), ``verify`` (the exact similarity
of a pair), ``rule`` (when two texts are duplicates), ``clusters`` (keep-first and connected
components over a whole list), ``index`` (the same rule, one text at a time).

Every result comes from NumPy alone. With the optional extra ``fast`` (``fast``), modules named
``*_kernel`` compute the same results, bit for bit, many times faster.
"""
