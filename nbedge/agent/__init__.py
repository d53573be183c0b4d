"""The agent: measures one file in one process, on this machine or on a device where nothing of nbedge is installed.

It needs numpy and the file's runtime, runs on Python 3.9, and imports nothing of nbedge but `nbedge.machine`; so it
fits into one file, see `nbedge.benchmark.archive`.
"""

#: begins the last line of what it prints; a JSON object follows. Only that line says that the job was done: an exit
#: status gets lost on the way through ssh
SENTINEL = "NBEDGE-RESULT "
#: begins the line that names a runtime before it is loaded, which may be the end of the process
RUNTIME = "NBEDGE-RUNTIME "
