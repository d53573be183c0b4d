"""The agent: measures one file in one process, on this machine or on a device where nothing of nbedge is installed.

It needs numpy and the file's runtime, runs on Python 3.9, and imports nothing of nbedge but `nbedge.machine`; so it
fits into one file, see `nbedge.benchmark.archive`.
"""
