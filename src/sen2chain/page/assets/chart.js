// The series of the chosen features, and the valid share below them, on one time axis.
"use strict";

const DAY = 86400;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
// Steps of the time axis: days, months (of 30 days) and years (of 365), as uPlot counts them; never hours.
const STEPS = [
  ...[1, 2, 3, 5, 7, 10, 15].map((n) => n * DAY),
  ...[1, 2, 3, 4, 6].map((n) => n * 30 * DAY),
  ...[1, 2, 5, 10, 25].map((n) => n * 365 * DAY),
];

/** Texts of the time axis: the year stands under the first date of each year. */
function dateTicks(splits, step) {
  let former = null;
  return splits.map((seconds) => {
    const date = new Date(seconds * 1000), year = date.getUTCFullYear(), month = MONTHS[date.getUTCMonth()];
    if (step >= 365 * DAY) return `${year}`;
    const text = step >= 30 * DAY ? month : `${date.getUTCDate()} ${month}`, isNew = year !== former;
    former = year;
    return isNew ? `${text}\n${year}` : text;
  });
}

/** The statistics that are drawn as a band around another one: [low, high] of a row, and the band's name. */
function bandOf(statistic, rows) {
  const has = (name) => rows.statistics.includes(name);
  if (statistic === "mean" && has("std")) {
    return {
      text: "mean \u00b1 standard deviation",
      of: (row) => {
        const mean = rows.value("mean", row), std = rows.value("std", row);
        return mean === null || std === null ? [null, null] : [mean - std, mean + std];
      },
    };
  }
  if (statistic === "median" && has("percentile_25") && has("percentile_75")) {
    return {
      text: "percentile 25 to 75",
      of: (row) => [rows.value("percentile_25", row), rows.value("percentile_75", row)],
    };
  }
  return null;
}

class SeriesChart {
  /** @param page what it tells: `hover(date or null)` and `pick(date)`, by position */
  constructor(place, validPlace, page) {
    Object.assign(this, { place, validPlace, page, plots: [] });
    new ResizeObserver(() => this.resize()).observe(place);
  }

  resize() {
    const width = this.place.clientWidth;
    if (width > 0) this.plots.forEach((plot) => plot.width !== width && plot.setSize({ width, height: plot.height }));
  }

  clear() {
    this.plots.forEach((plot) => plot.destroy());
    this.plots = [];
    this.place.textContent = this.validPlace.textContent = "";
  }

  /** Draw the series of chosen features. */
  draw(rows, statistic, chosen) {
    this.clear();
    Object.assign(this, { rows, statistic, chosen });
    this.band = bandOf(statistic, rows);
    this.gaps = chosen.map((p) => rows.without(p));
    this.curves = statistic === "mean" ? chosen.map((p) => rows.curve(p)) : [];
    this.hasCurves = this.curves.some((curve) => curve.length);
    // One axis of times for dates and curves.
    const more = this.curves.flat().map(([seconds]) => seconds);
    this.times = more.length ? [...new Set([...rows.dates, ...more])].sort((a, b) => a - b) : rows.dates;
    this.at = new Map(this.times.map((seconds, i) => [seconds, i]));
    if (!chosen.length || !rows.dates.length) {
      this.place.append(textNode(rows.dates.length ? "" : "There is no acquisition to draw."));
      return;
    }
    this.plots.push(new uPlot(this.options(statistic), this.data(statistic, true), this.place));
    if (statistic !== "valid") {
      this.plots.push(new uPlot(this.validOptions(), this.data("valid", false), this.validPlace));
    }
    this.wholePeriod();
  }

  /** Dates, then the values of each feature, then low and high of each band. */
  data(statistic, withBands) {
    const { rows, chosen, times } = this, empty = () => new Array(times.length).fill(null);
    const lines = chosen.map(empty), bands = withBands && this.band ? chosen.map(() => [empty(), empty()]) : [];
    chosen.forEach((p, i) => {
      for (let row = rows.start[p]; row < rows.start[p + 1]; row++) {
        const at = this.at.get(rows.dates[rows.when[row]]);
        lines[i][at] = rows.value(statistic, row);
        if (bands.length) [bands[i][0][at], bands[i][1][at]] = this.band.of(row);
      }
    });
    const curves = withBands && this.hasCurves ? this.curves.map((curve) => {
      const line = empty();
      for (const [seconds, value] of curve) line[this.at.get(seconds)] = value;
      return line;
    }) : [];
    return [times, ...lines, ...bands.flat(), ...curves];
  }

  options(statistic) {
    const [low, high] = this.rows.range(statistic), count = this.chosen.length;
    const many = Math.max(...this.chosen.map((p) => this.rows.count(p))) > 150;
    const bandFill = count > 3 ? 0.06 : 0.18;
    return {
      ...this.shared(300),
      scales: {
        x: { range: (_, min, max) => [min, max] },
        y: { range: (_, min, max) => [Math.min(low, min ?? low), Math.max(high, max ?? high)] },
      },
      axes: [this.timeAxis(), this.valueAxis(statistic)],
      series: [
        {},
        ...this.chosen.map((_, i) => ({
          // Beside a smoothed curve the observations are points alone.
          stroke: this.hasCurves ? "transparent" : lineColour(i), width: 2, dash: DASHES[i], spanGaps: true,
          points: { show: this.hasCurves || !many, size: many ? 4 : 6, fill: lineColour(i), width: 0 },
        })),
        ...(this.band ? this.chosen.flatMap(() => [0, 1].map(() => ({ spanGaps: true, points: { show: false } }))) : []),
        ...(this.hasCurves
          ? this.chosen.map((_, i) => ({ stroke: lineColour(i), width: 2.5, dash: DASHES[i], spanGaps: true, points: { show: false } }))
          : []),
      ],
      bands: this.band
        ? this.chosen.map((_, i) => ({ series: [count + 2 * i + 2, count + 2 * i + 1], fill: faded(lineColour(i), bandFill) }))
        : [],
      hooks: { ...this.hooks(), draw: [(plot) => this.drawMarks(plot), (plot) => this.drawDate(plot)] },
    };
  }

  validOptions() {
    return {
      ...this.shared(96),
      scales: { x: { range: (_, min, max) => [min, max] }, y: { range: [0, 100] } },
      axes: [{ ...this.timeAxis(), values: (_, splits) => splits.map(() => ""), size: 6 }, {
        ...this.valueAxis("valid"), splits: () => [0, 50, 100], label: "valid",
      }],
      series: [{}, ...this.chosen.map(() => ({ stroke: "transparent", points: { show: false } }))],
      hooks: { ...this.hooks(), draw: [(plot) => this.drawStems(plot), (plot) => this.drawDate(plot)] },
    };
  }

  shared(height) {
    return {
      width: Math.max(200, this.place.clientWidth), height, legend: { show: false },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      padding: [8, 12, 0, 0],
      cursor: { sync: { key: "series" }, drag: { x: true, y: false }, y: false, points: { size: 8 } },
    };
  }

  hooks() {
    return {
      setCursor: [(plot) => this.page.hover(this.dateAt(plot.cursor.idx))],
      setScale: [(plot, key) => key === "x" && this.follow(plot)],
      ready: [(plot) => this.listen(plot)],
    };
  }

  /** A click, but no drag, chooses the date of the map. */
  listen(plot) {
    let from = 0;
    plot.over.addEventListener("mousedown", (event) => { from = event.clientX; });
    plot.over.addEventListener("click", (event) => {
      const date = this.dateAt(plot.cursor.idx);
      if (Math.abs(event.clientX - from) < 4 && date !== null) this.page.pick(date);
    });
  }

  /** Position of the date that is nearest to a position on the time axis; null where there is none. */
  dateAt(at) {
    const { dates } = this.rows;
    if (at === null || at === undefined || !dates.length) return null;
    let low = 0, high = dates.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (dates[middle] < this.times[at]) low = middle + 1;
      else high = middle;
    }
    return low > 0 && this.times[at] - dates[low - 1] < dates[low] - this.times[at] ? low - 1 : low;
  }

  /** Keep both charts on the same period. */
  follow(plot) {
    const { min, max } = plot.scales.x;
    for (const other of this.plots) {
      if (other !== plot && (other.scales.x.min !== min || other.scales.x.max !== max)) other.setScale("x", { min, max });
    }
  }

  wholePeriod() {
    if (this.rows?.dates.length) this.plots[0]?.setScale("x", padded(this.rows.dates)); // the other one follows
  }

  timeAxis() {
    return {
      stroke: () => ink("muted"), grid: { stroke: () => ink("line"), width: 1 }, ticks: { stroke: () => ink("line") },
      font: "12px system-ui, sans-serif", incrs: STEPS, space: 64, values: (_, splits, __, ___, step) => dateTicks(splits, step),
      size: 44,
    };
  }

  valueAxis(statistic) {
    return {
      stroke: () => ink("muted"), grid: { stroke: () => ink("line"), width: 1 }, ticks: { stroke: () => ink("line") },
      font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif", labelSize: 18, labelGap: 2, size: 46, space: 36,
      label: statistic === "valid" ? "valid share" : this.rows.output.index,
      values: (_, splits) => splits.map((value) => (statistic === "valid" ? `${value} %` : String(+value.toFixed(6)).replace("-", "\u2212"))),
    };
  }

  /** A vertical line at the date of the map. */
  drawDate(plot) {
    if (this.date === undefined || this.date === null) return;
    const context = plot.ctx, x = Math.round(plot.valToPos(this.rows.dates[this.date], "x", true)) + 0.5;
    if (x < plot.bbox.left || x > plot.bbox.left + plot.bbox.width) return;
    context.save();
    context.strokeStyle = ink("ink");
    context.globalAlpha = 0.55;
    context.setLineDash([4, 4]);
    context.beginPath();
    context.moveTo(x, plot.bbox.top);
    context.lineTo(x, plot.bbox.top + plot.bbox.height);
    context.stroke();
    context.restore();
  }

  /** A cross for each acquisition without a value, a line of them for each feature. */
  drawMarks(plot) {
    const context = plot.ctx, ratio = uPlot.pxRatio, reach = 2.6 * ratio;
    context.save();
    context.lineWidth = 1.3 * ratio;
    this.gaps.forEach((dates, i) => {
      const y = plot.bbox.top + plot.bbox.height - (7 + 9 * i) * ratio;
      context.strokeStyle = this.chosen.length > 1 ? lineColour(i) : ink("muted");
      context.beginPath();
      for (const date of dates) {
        const x = plot.valToPos(this.rows.dates[date], "x", true);
        if (x < plot.bbox.left || x > plot.bbox.left + plot.bbox.width) continue;
        context.moveTo(x - reach, y - reach);
        context.lineTo(x + reach, y + reach);
        context.moveTo(x - reach, y + reach);
        context.lineTo(x + reach, y - reach);
      }
      context.stroke();
    });
    context.restore();
  }

  /** A stem as high as the valid share for each date. */
  drawStems(plot) {
    const context = plot.ctx, ratio = uPlot.pxRatio, low = plot.bbox.top + plot.bbox.height, count = this.chosen.length;
    context.save();
    context.beginPath();
    context.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
    context.clip();
    context.lineWidth = (count > 1 ? 2 : 4) * ratio;
    this.chosen.forEach((p, i) => {
      context.strokeStyle = lineColour(i);
      context.beginPath();
      for (let row = this.rows.start[p]; row < this.rows.start[p + 1]; row++) {
        const x = plot.valToPos(this.rows.dates[this.rows.when[row]], "x", true) + (i - (count - 1) / 2) * 3 * ratio;
        context.moveTo(x, low);
        context.lineTo(x, plot.valToPos(this.rows.valid[row], "y", true));
      }
      context.stroke();
    });
    context.restore();
  }

  /** Show another date of the map. */
  mark(date) {
    this.date = date;
    this.plots.forEach((plot) => plot.redraw(false));
  }

  /** Sentence on what the chart is made of. */
  key() {
    const parts = [];
    if (this.hasCurves) parts.push(`Line: ${this.rows.smooth.name}; points: observations.`);
    if (this.band) parts.push(`Band: ${this.band.text}.`);
    if (this.gaps?.some((dates) => dates.length)) parts.push("\u00d7\u00a0acquisition without a value (clouds or no data).");
    if (this.statistic !== "valid") parts.push("Bars: valid share of the pixels.");
    return parts.join(" ");
  }
}

/** Range of the time axis: a little more than the dates, and never less than ten days. */
function padded(dates) {
  const min = dates[0], max = dates[dates.length - 1], pad = Math.max((10 * DAY - (max - min)) / 2, (max - min) * 0.015);
  return { min: min - pad, max: max + pad };
}
