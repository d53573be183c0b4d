"""A chain's verdict as a JUnit file and as Markdown."""

from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from nbedge.localization import Located
    from nbedge.verification import Chain, Check, Equivalence


def as_junit(chain: "Chain", failure: "Located | None" = None) -> str:
    """Return the verdicts as a JUnit file: one suite an edge, one test case a check; the first bad tensor as output."""
    suites = ElementTree.Element("testsuites", name="nbedge verify")
    for edge in chain.edges:
        suite = _suite(suites, edge)
        if failure is not None and failure.edge is edge:
            ElementTree.SubElement(suite, "system-out").text = first_bad(failure)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _suite(suites: ElementTree.Element, edge: "Equivalence") -> ElementTree.Element:
    verdicts = [str(check.verdict) for check in edge.checks]
    suite = ElementTree.SubElement(
        suites, "testsuite", name=f"{edge.reference} -> {edge.candidate} ({edge.kernels})", tests=str(len(verdicts)),
        failures=str(verdicts.count("FAIL")), skipped=str(verdicts.count("NOT CHECKED")),
    )  # fmt: skip
    for check in edge.checks:
        case = ElementTree.SubElement(suite, "testcase", name=check.name, classname=f"nbedge.verify.{edge.candidate}")
        found = f"{check.value:.6g} {check.unit}, limit {check.limit}; {check.detail}"
        if str(check.verdict) == "FAIL":
            ElementTree.SubElement(case, "failure", message=found)
        elif str(check.verdict) == "NOT CHECKED":
            ElementTree.SubElement(case, "skipped", message=check.detail)
    return suite


def first_bad(failure: "Located") -> str:
    """Return, in one line, where the candidate of an edge goes wrong."""
    first = failure.localization.first_bad
    if first is None:
        return "first bad tensor: none: every layer is within its limit"
    label = "" if first.label == first.candidate else f" ({first.label})"
    return f"first bad tensor: {first.candidate}{label}, {first.kind}, SQNR {first.sqnr_db:.1f} dB"


def as_markdown(chain: "Chain", failure: "Located | None" = None) -> str:
    """Return the verdicts as Markdown, for a job summary: one table an edge, and the first bad tensor."""
    parts = [f"## nbedge verify: {chain.verdict}", ""]
    for edge in chain.edges:
        parts += [
            f"### {edge.reference} → {edge.candidate} ({edge.kernels}): {edge.verdict}", "",
            "| check | value | limit | unit | verdict | detail |", "|---|---|---|---|---|---|",
            *map(_row, edge.checks), "",
        ]  # fmt: skip
        if failure is not None and failure.edge is edge:
            parts += [first_bad(failure), ""]
    return "\n".join(parts)


def _row(check: "Check") -> str:
    limit = "" if check.limit is None else f"{check.limit:g}"
    cells = (check.name, f"{check.value:.4g}", limit, check.unit, str(check.verdict), check.detail)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
