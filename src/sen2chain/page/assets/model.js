// The features and the rows of each index under each mask, as the rest of the page asks for them.
"use strict";

const NAMES = {
  mean: "Mean", std: "Standard deviation", median: "Median", min: "Minimum", max: "Maximum", range: "Range",
  mad: "Median absolute deviation", valid: "Valid share of pixels",
};

/** Name of a statistic for people. */
function nameOf(statistic) {
  const percentile = /^percentile_(.+)$/.exec(statistic);
  return percentile ? `Percentile ${percentile[1]}` : NAMES[statistic] || statistic;
}

/** Statistics that measure a spread: they begin at 0 and have no fixed range. */
const SPREADS = new Set(["std", "range", "mad"]);

/** The features: names, attributes, outlines. `p` is always the position of a feature in this page. */
class Features {
  static async load(head) {
    const features = new Features();
    const shapes = head.shapes;
    const [table, parts, rings, points, x, y, anchorX, anchorY] = await Promise.all(
      [head.features, shapes.parts, shapes.rings, shapes.points, shapes.x, shapes.y, shapes.anchorX, shapes.anchorY]
        .map(unpack));
    Object.assign(features, { count: table.fid.length, fid: table.fid, name: table.name, columns: table.columns });
    features.outlines = new Array(features.count);
    features.anchors = new Array(features.count);
    const per = shapes.perDegree, nowhere = -2147483648;
    let part = 0, ring = 0, point = 0;
    for (let p = 0; p < features.count; p++) {
      const polygons = [];
      for (let i = 0; i < parts[p]; i++, part++) {
        const polygon = [];
        for (let j = 0; j < rings[part]; j++, ring++) {
          const outline = [];
          for (let k = 0; k < points[ring]; k++, point++) outline.push([y[point] / per, x[point] / per]);
          polygon.push(outline);
        }
        polygons.push(polygon);
      }
      features.outlines[p] = polygons;
      features.anchors[p] = anchorX[p] === nowhere ? null : [anchorY[p] / per, anchorX[p] / per];
    }
    return features;
  }

  /** Texts of a feature that the search looks at, in lower case; made once. */
  words(p) {
    this.searched ||= Array.from({ length: this.count }, (_, q) => [
      this.name[q], `fid ${this.fid[q]}`, ...this.columns.map((column) => column.values[q] ?? ""),
    ].join("\n").toLowerCase());
    return this.searched[p];
  }

  /** The fid and the first attributes of a feature, as far as its name does not say them. */
  about(p) {
    const known = this.columns.map((column) => column.values[p]).filter((value) => value !== null).slice(0, 3);
    return [`fid ${this.fid[p]}`, ...known].filter((text) => String(text) !== this.name[p]).join(", ");
  }

  /** Positions of features that hold each of the words of a text, those that begin with it first. */
  search(text) {
    const asked = text.trim().toLowerCase(), words = asked.split(/\s+/);
    if (!asked) return [];
    const found = [];
    for (let p = 0; p < this.count; p++) if (words.every((word) => this.words(p).includes(word))) found.push(p);
    const rank = (p) => {
      const name = this.name[p].toLowerCase();
      return name === asked || String(this.fid[p]) === asked ? 0 : name.startsWith(asked) ? 1 : 2;
    };
    return found.map((p) => [rank(p), p]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map((pair) => pair[1]);
  }
}

/** The rows of one index under one mask, by feature, then date. */
class Rows {
  static async load(output, block) {
    const rows = new Rows();
    const names = Object.keys(block.values);
    const [counts, when, valid, group, ...rest] = await Promise.all(
      [block.counts, block.when, block.valid, block.group, ...names.map((name) => block.values[name]), ...block.tiles]
        .map(unpack));
    Object.assign(rows, { output, dates: block.dates, when, valid, group, groups: block.groups });
    rows.start = new Uint32Array(counts.length + 1);
    for (let p = 0; p < counts.length; p++) rows.start[p + 1] = rows.start[p] + counts[p];
    rows.values = Object.fromEntries(names.map((name, i) => [name, rest[i]]));
    rows.perUnit = Object.fromEntries(names.map((name) => [name, block.values[name].perUnit]));
    rows.missing = Object.fromEntries(names.map((name) => [name, MISSING[block.values[name].type]]));
    rows.tiles = rest.slice(names.length);
    rows.statistics = [...names, "valid"];
    if (block.smooth) await rows.loadSmooth(block.smooth);
    return rows;
  }

  /** Smoothed curves of the means, one after the other; days since 1970. */
  async loadSmooth(smooth) {
    const [counts, days, values] = await Promise.all([smooth.counts, smooth.days, smooth.values].map(unpack));
    const start = new Uint32Array(counts.length + 1);
    for (let p = 0; p < counts.length; p++) start[p + 1] = start[p] + counts[p];
    this.smooth = { name: smooth.name, start, days, values, perUnit: smooth.values.perUnit, missing: MISSING[smooth.values.type] };
  }

  /** The smoothed curve of a feature: pairs of seconds and a value. */
  curve(p) {
    if (!this.smooth) return [];
    const { start, days, values, perUnit, missing } = this.smooth, found = [];
    for (let i = start[p]; i < start[p + 1]; i++) {
      if (values[i] !== missing) found.push([days[i] * 86400 + 43200, values[i] / perUnit]);
    }
    return found;
  }

  /** The row of a feature at a date, by its position; -1 where there is none. */
  at(p, date) {
    let low = this.start[p], high = this.start[p + 1] - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      if (this.when[middle] === date) return middle;
      if (this.when[middle] < date) low = middle + 1;
      else high = middle - 1;
    }
    return -1;
  }

  /** The last row of a feature; -1 where it has none. */
  last(p) {
    return this.start[p + 1] > this.start[p] ? this.start[p + 1] - 1 : -1;
  }

  count(p) {
    return this.start[p + 1] - this.start[p];
  }

  /** The value of a row in index units (percent for the valid share); null where it is missing. */
  value(statistic, row) {
    if (row < 0) return null;
    if (statistic === "valid") return this.valid[row];
    const steps = this.values[statistic][row];
    return steps === this.missing[statistic] ? null : steps / this.perUnit[statistic];
  }

  /** Number of features with a value at each date. */
  get coverage() {
    if (!this.counted) {
      this.counted = new Uint32Array(this.dates.length);
      for (const date of this.when) this.counted[date]++;
    }
    return this.counted;
  }

  /** Positions of dates on which a feature was seen without a value: clouds, or no data. */
  without(p) {
    const tiles = this.groups[this.group[p]];
    const seen = new Set(), days = new Set();
    // Without any row the tiles of a feature are not known: then all acquisitions count.
    for (const tile of tiles.length ? tiles : this.tiles.keys()) for (const date of this.tiles[tile]) seen.add(date);
    for (let row = this.start[p]; row < this.start[p + 1]; row++) days.add(dayOf(this.dates[this.when[row]]));
    return [...seen].filter((date) => !days.has(dayOf(this.dates[date]))).sort((a, b) => a - b);
  }

  /** Smallest and largest value that the legend and the axis show of a statistic. */
  range(statistic) {
    if (statistic === "valid") return [0, 100];
    if (!SPREADS.has(statistic)) return [this.output.low, this.output.high];
    this.ranges ||= {};
    if (!this.ranges[statistic]) {
      // The 98th percentile of at most 20,000 rows, so that one odd parcel does not pale all others.
      const all = this.values[statistic], step = Math.max(1, Math.floor(all.length / 20000)), some = [];
      for (let row = 0; row < all.length; row += step) if (all[row] !== this.missing[statistic]) some.push(all[row]);
      some.sort((a, b) => a - b);
      const high = some.length ? some[Math.floor(0.98 * (some.length - 1))] / this.perUnit[statistic] : 1;
      this.ranges[statistic] = [0, rounded(Math.max(high, 1e-4))];
    }
    return this.ranges[statistic];
  }
}

/** Round up to two digits. */
function rounded(value) {
  const step = 10 ** (Math.floor(Math.log10(value)) - 1);
  return Math.ceil(value / step - 1e-9) * step;
}

function dayOf(seconds) {
  return Math.floor(seconds / 86400);
}

/** A date as 2022-06-13, and with its time where asked. */
function dateText(seconds, withTime = false) {
  const text = new Date(seconds * 1000).toISOString();
  return withTime ? text.slice(0, 19).replace("T", " ") : text.slice(0, 10);
}

/** A value for people: 0.72, 12.3, 98 %. */
function valueText(value, statistic) {
  if (value === null || value === undefined) return "no value";
  if (statistic === "valid") return `${Math.round(value)} %`;
  const size = Math.abs(value);
  const text = value.toFixed(size < 1 ? (SPREADS.has(statistic) ? 3 : 2) : size < 100 ? 2 : 0);
  return text.replace(/^-(?=[0.]*$)/, "").replace("-", "\u2212");
}
