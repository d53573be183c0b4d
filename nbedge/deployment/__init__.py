"""From an exported file to a folder that an app, a microcontroller, a Raspberry Pi or a web server takes as it is."""

from nbedge.deployment.boards import BOARDS
from nbedge.deployment.deploying import deploy
from nbedge.deployment.record import Deployment
from nbedge.deployment.targets import TARGETS

__all__ = ["BOARDS", "TARGETS", "Deployment", "deploy"]
