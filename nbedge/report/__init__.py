"""What came of a run: a summary in records and in one sentence, and one self-contained HTML page."""

from nbedge.report.page import write
from nbedge.report.summary import Row, Summary, summarize

__all__ = ["Row", "Summary", "summarize", "write"]
