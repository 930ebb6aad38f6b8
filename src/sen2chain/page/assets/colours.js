// Colours: of values on the map, of features that are compared, and of the page in its light and its dark form.
"use strict";

/** Ramp for statistics that are not index values (cividis, which people who cannot tell red from green can read). */
const NEUTRAL = ["#00224e", "#1d3d6f", "#434e6c", "#61656f", "#7d7c78", "#9b9476", "#bcae6c", "#e0c957", "#fee838"];

/** Line colours of compared features (Okabe and Ito, darkened or lightened to stand out), and their dashes. */
const LINES = {
  light: ["#0072b2", "#c44e00", "#007a5a", "#a8437c", "#6b4fa3", "#5c5c5c"],
  dark: ["#56b4e9", "#f0a05a", "#3ecf9f", "#e394c0", "#b39ddb", "#c8c8c8"],
};
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [4, 4], [1, 4]];

/** Most features that are compared. */
const MOST = LINES.light.length;

function isDark() {
  return document.documentElement.dataset.theme === "dark";
}

function lineColour(i) {
  return LINES[isDark() ? "dark" : "light"][i % MOST];
}

/** A colour of the page's style, by the name of its property. */
function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** A colour with an opacity, as CSS text. */
function faded(hex, opacity) {
  const [r, g, b] = channels(hex);
  return `rgba(${r}, ${g}, ${b}, ${opacity})`;
}

function channels(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

/** Gives the colour of a value: 256 steps of a ramp, from low to high. */
function ramp(colours, low, high) {
  const stops = colours.map(channels), steps = [];
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (stops.length - 1), k = Math.min(Math.floor(at), stops.length - 2), share = at - k;
    steps.push(`rgb(${stops[k].map((c, j) => Math.round(c + share * (stops[k + 1][j] - c))).join(",")})`);
  }
  return (value) => steps[Math.max(0, Math.min(255, Math.round((255 * (value - low)) / (high - low))))];
}

/** Colours of the ramp of a statistic. */
function rampColours(output, statistic) {
  return statistic === "valid" || SPREADS.has(statistic) ? NEUTRAL : output.colours;
}

/** The hatching of features without a value, for a canvas. */
function hatching() {
  const tile = document.createElement("canvas"), size = 8;
  tile.width = tile.height = size;
  const context = tile.getContext("2d");
  context.fillStyle = ink("hatch-ground");
  context.fillRect(0, 0, size, size);
  context.strokeStyle = ink("hatch-line");
  context.lineWidth = 1.2;
  context.beginPath();
  for (const shift of [-size, 0, size]) {
    context.moveTo(shift, size);
    context.lineTo(shift + size, 0);
  }
  context.stroke();
  return context.createPattern(tile, "repeat");
}
