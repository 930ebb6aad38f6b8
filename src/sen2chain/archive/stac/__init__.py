"""Products in STAC catalogues: items become acquisitions, whose offsets `offsets` decides."""
