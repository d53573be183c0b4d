"""Verification: is the candidate the same as the reference? A verdict, with the numbers behind it.

It judges a merge by running modules, never by merging again.
"""

from nbedge.verification.agreement import REAL, Limits, agreement
from nbedge.verification.chain import Chain, claimed_kernels, links, verify_edges
from nbedge.verification.declared import declared, linted
from nbedge.verification.equivalence import Check, Equivalence, Verdict, not_checked
from nbedge.verification.families import Families, families
from nbedge.verification.judging import verify
from nbedge.verification.lint import PADS, TARGETS, largest_step, lint, statistics
from nbedge.verification.merge import verify_merge

__all__ = [
    "PADS", "REAL", "TARGETS", "Chain", "Check", "Equivalence", "Families", "Limits", "Verdict", "agreement",
    "claimed_kernels", "declared", "families", "largest_step", "lint", "linted", "links", "not_checked", "statistics",
    "verify", "verify_edges", "verify_merge",
]  # fmt: skip
