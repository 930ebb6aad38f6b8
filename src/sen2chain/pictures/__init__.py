"""Pictures of series and of chips.

`series_figures` turns arrays into matplotlib figures of series, `drawn_text` makes texts from outside fit for drawing,
and `figure_files` writes figures. `chip_images` and `contact_sheets` make images of chips, `picture_key` the key to
their colours, and `image_files` writes images that say what they were made from. Nothing here knows layers or time
series; matplotlib and Pillow are imported when something is drawn.
"""

from __future__ import annotations
