"""Verification: is the candidate the same as the reference? A verdict, with the numbers behind it.

It judges a merge by running modules, never by merging again.
"""

from nbedge.verification.agreement import Limits, agreement
from nbedge.verification.equivalence import Check, Equivalence, Verdict
from nbedge.verification.integers import integer_checks
from nbedge.verification.judging import verify
from nbedge.verification.merge import verify_merge

__all__ = ["Check", "Equivalence", "Limits", "Verdict", "agreement", "integer_checks", "verify", "verify_merge"]
