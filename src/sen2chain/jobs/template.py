"""The file that a new job begins with: every setting and every column explained, and an example."""

from __future__ import annotations

from sen2chain.jobs.file import COLUMNS

_TEMPLATE = """\
# The job {name}: an extraction of time series that is run again and again.
#
#   sen2chain job check {name}     says what each line would do, or what is wrong with it
#   sen2chain job run {name}       runs it now
#   sen2chain job enable {name}    runs it from now on at the times of "timing", by cron
#
# Lines that begin with # are comments. They stay when the program changes this file.

# ---------------------------------------------------------------------------------------------------------- settings

# True: each run writes a log, and a record that programs can read, to logs/job_{name}/ in sen2chain_data.
# False: only the record of the last run is kept there.
logs = True

# When the job runs, as cron has it and in the local time of this machine:
# minute (0-59), hour (0-23), day of the month (1-31), month (1-12), day of the week (0-7, Sunday is 0 and 7).
# 0 0 * * * is every midnight, 30 5 * * 1 every Monday at 5:30, 0 */6 * * * every six hours.
# Call "sen2chain job enable {name}" again after a change.
timing = 0 0 * * *

# Number of processors to use; 0 is all of them. Results do not depend on it.
nb_proc = 8

# Lines of the table are taken in batches: a batch is extracted, then compiled, then sent, before the next one begins.
# 1 sends the results of each line before the next line is extracted; 0 takes all lines at once.
process_by_line = 0

# Commands after a run; the path of the run's record (JSON) is put behind their arguments. on_failure is called when
# a part or all of a run could not be done, on_success otherwise. They are programs with arguments, no shell: for
# pipes or variables, call a script of your own. Take the # away to use one.
# on_failure = mail -s "sen2chain job {name}" you@example.org -A
# on_success = ~/my_script.sh

# Seconds after which a delivery is given up; the next run sends the rest.
delivery_timeout = 3600

# How many runs have their logs and records kept; 0 keeps all of them.
keep_runs = 400

# A folder of SAFE products (/path/to/products) to be used in the place of the archive of sen2chain_data.
safe = False

# first: compare the files of a product with its own checksums before it is extracted for the first time. never: do not.
verify = never

# -------------------------------------------------------------------------------------------------------------- table

# One line for each extraction, with a ; between the columns. False, or nothing at all, switches a column off.
# A ! before the shapefile skips the line.
#
# shapefile         polygon layer: shapefile, GeoPackage, GeoJSON, ...; relative to sen2chain_data. Of a file that has
#                   several layers one is chosen as in QGIS: fields.gpkg|layername=parcels. Put a name with a ; into "".
# date_min          first date to extract: 2021-01-31, today, or today-30 (30 days ago); empty is 2015-01-01.
# date_max          last date, which is included: 2021-12-31, today or today-5; empty is no limit. Dates are UTC.
# max_clouds        products with a larger cloud cover are left out, in percent; empty is 100.
# cloudmasks        cloud masks with / between them: CM001, CM002-B11, CM003-PRB1-ITER5,
#                   CM004-CSH1-CMP1-CHP1-TCI1-ITER1 (shadows, medium and high probability, cirrus: 1 or 0; dilations),
#                   OCM, SCL-3-8-9-10-11-ITER1. Each index is extracted under each mask.
# indices           All, or some with / between them: BIBG, BIGR, BIRNIR, EVI, IRECI, MNDWI, NBR, NDBI, NDRE, NDVI,
#                   NDWIGAO, NDWIMCF; or your own, as SAVI=1.5*(B08-B04)/(B08+B04+0.5).
# force_extraction  True extracts everything again at each run; False only what is new or has changed.
# compiled_data     tables to write with / between them: yearly, monthly, weekly, daily: one file for each of them;
#                   all_data: one file of all dates there are; all: one file of the dates from date_min to date_max,
#                   called after its first and last date, so that it has a new name when these change.
#                   yearly to daily and all_data hold whatever was extracted, whenever that was.
# smooth_data       True, or savgol, whittaker, harmonic, original: smoothed series beside those of all and all_data.
# copy_server       where compiled files are sent: user@server:path/to/destination (by rsync and ssh, with your key),
#                   a folder (/data/results), or an object store (s3://bucket/results). They arrive there as
#                   <INDEX>/<MASK>/<period>/<file>, and only when they have changed.
#
# More columns may be added to the line of names, each of them or some, and to the lines below it:
#
# pixels            pixels of a polygon: center (its centre lies inside), all_touched, or weighted.
# buffer            metres by which polygons grow, or shrink: -10.
# stats             more statistics with / between them, as sum/percentile_90.
# min_valid         smallest share of valid pixels that a row needs: 0.8.
# aggregate         what is made of the dates of each period, in a file beside, with / between: mean, median, max,
#                   count, weighted_mean.
# encoding          of the layer's texts, as cp1252, where it is told wrongly.
# crs               of a layer that does not tell its own, as EPSG:2154.
#
# This example does nothing until you take its ! away and write the path of your layer:

{header}
!/path/to/parcels.shp;today-30;today;100;CM004-CSH1-CMP1-CHP1-TCI1-ITER1;NDVI/NDWIGAO;False;monthly/yearly;False;False
"""


def template(name: str) -> str:
    """Return the text of a new job's file.

    Parameters
    ----------
    name
        The job.
    """
    return _TEMPLATE.format(name=name, header=";".join(COLUMNS))
