"""nbedge's integer files beside those that other tools make of the same network with the same pictures, and its C."""
