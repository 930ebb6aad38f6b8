"""Make ``docs/images/qgis-temporal.png``: QGIS with the layer NDVI of a GeoPackage and its temporal controller.

QGIS itself runs this script, on a screen or with Xvfb, from the folder of the clone, after ``make demo``::

    sen2chain extract demo/parcels.gpkg --library demo/sen2chain_data --index NDVI --mask CM004 --id parcel \
        --format gpkg --out demo/maps
    SEN2CHAIN_GPKG=demo/maps/parcels/parcels_None_None.gpkg \
        xvfb-run -s "-screen 0 1120x640x24" qgis --nologo --noversioncheck --code docs/make_qgis_picture.py
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from qgis.core import QgsInterval, QgsProject, QgsTemporalNavigationObject, QgsTemporalUtils, QgsUnitTypes
from qgis.PyQt.QtCore import Qt, QTimer
from qgis.PyQt.QtWidgets import QDockWidget, QToolBar
from qgis.utils import iface

PICTURE = Path.cwd() / "docs" / "images" / "qgis-temporal.png"
STEP_DAYS = 5
FRAME = 36
"""The frame that is shown, in steps from the first date."""


def show() -> None:
    """Open the layer as a user would, and set the temporal controller to a date."""
    path = Path(os.environ["SEN2CHAIN_GPKG"]).absolute()
    layer = iface.addVectorLayer(f"{path}|layername=NDVI", "NDVI", "ogr")
    if not layer.temporalProperties().isActive():
        sys.exit("The style of the layer has not been loaded.")
    window = iface.mainWindow()
    for dock in window.findChildren(QDockWidget):
        dock.setVisible(dock.objectName() in {"Layers", "Temporal Controller"})
    for bar in window.findChildren(QToolBar):
        bar.setVisible(bar.objectName() == "mMapNavToolBar")
    window.resize(1120, 640)
    window.resizeDocks([window.findChild(QDockWidget, "Layers")], [210], Qt.Horizontal)
    window.resizeDocks([window.findChild(QDockWidget, "Temporal Controller")], [100], Qt.Vertical)
    iface.layerTreeView().expandAllNodes()
    controller = iface.mapCanvas().temporalController()
    controller.setNavigationMode(QgsTemporalNavigationObject.Animated)
    controller.setTemporalExtents(QgsTemporalUtils.calculateTemporalRangeForProject(QgsProject.instance()))
    controller.setFrameDuration(QgsInterval(STEP_DAYS, QgsUnitTypes.TemporalDays))
    controller.setCurrentFrameNumber(FRAME)


def look() -> None:
    """Zoom to the layer, once the window has its size."""
    iface.mapCanvas().setExtent(iface.activeLayer().extent().buffered(0.001))
    iface.mapCanvas().refresh()


def save() -> None:
    """Save the window, and end QGIS without its question about the project."""
    iface.mainWindow().grab().save(str(PICTURE))
    os._exit(0)


def guarded(action: object) -> None:
    """Run a part, and end QGIS with its error, which it would otherwise show in a window."""
    try:
        action()
    except BaseException:  # noqa: BLE001  # told as it is
        traceback.print_exc()
        os._exit(1)


QTimer.singleShot(3000, lambda: guarded(show))
QTimer.singleShot(6000, lambda: guarded(look))
QTimer.singleShot(9000, lambda: guarded(save))
