"""The formats that nbedge writes, one file a format; each is a plug-in of the entry-point group `nbedge.exporters`."""
