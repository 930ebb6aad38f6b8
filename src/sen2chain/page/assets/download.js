// Downloads: CSV and PNG of what is shown, made here in the page.
"use strict";

/** Offer a file to save. */
function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name.replace(/[\\/:*?"<>|\u0000-\u001f]/g, "_");
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A text with an apostrophe where a spreadsheet would take it, or a part after a separator, for a formula. */
function guarded(text) {
  if (/^[+-]?[0-9]+([.,][0-9]+)?$/.test(text)) return text;
  // The last four are the wide forms of the first ones.
  return text.replace(/(^|[\t;])([ \t\r\n]*)([=+\-@\uff1d\uff0b\uff0d\uff20\t\r])/g, "$1$2'$3");
}

/** A line of CSV as `to_csv(dialect="excel")` writes it: texts are never formulas, and quoted where needed. */
function csvLine(fields) {
  return fields.map((field) => {
    const text = field === null || field === undefined ? "" : typeof field === "string" ? guarded(field) : String(field);
    return /[",;\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }).join(",");
}

/** Save lines for a spreadsheet: the byte order mark tells Excel that the file is UTF-8. */
function saveCsv(lines, name) {
  save(new Blob(["\ufeff", ...lines.map((fields) => `${csvLine(fields)}\r\n`)], { type: "text/csv;charset=utf-8" }), name);
}

/** A number without the digits that its storage added. */
function plain(value) {
  return value === null ? null : +value.toFixed(6);
}

/** Series of chosen features, a line for each date with a value; values are in index units. */
function seriesCsv(rows, features, chosen) {
  const statistics = rows.statistics.filter((name) => name !== "valid");
  const lines = [["date", "fid", "name", "index", "mask", ...statistics, "valid_percent"]];
  for (const p of chosen) {
    for (let row = rows.start[p]; row < rows.start[p + 1]; row++) {
      lines.push([
        dateText(rows.dates[rows.when[row]], true), features.fid[p], features.name[p], rows.output.index, rows.output.mask,
        ...statistics.map((name) => plain(rows.value(name, row))), rows.valid[row],
      ]);
    }
  }
  return lines;
}

/** Break a text into lines that are no wider than asked. */
function brokenLines(context, text, width) {
  const lines = [];
  for (const word of text.split(" ")) {
    const longer = lines.length ? `${lines[lines.length - 1]} ${word}` : word;
    if (lines.length && context.measureText(longer).width <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

/** Draw a picture of the page's colours: a title, then what `paint` draws, then lines of text; save it as PNG. */
function savePng({ width, height, title, lines, paint, name }) {
  const scale = Math.max(2, window.devicePixelRatio || 1), margin = 16, line = 20;
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
  context.font = "14px system-ui, sans-serif";
  const broken = lines.flatMap(({ text, colour }) => brokenLines(context, text, width).map((part) => ({ text: part, colour })));
  canvas.width = (width + 2 * margin) * scale;
  canvas.height = (height + 2 * margin + line * (1.4 + broken.length) + 6) * scale;
  context.fillStyle = ink("card");
  context.fillRect(0, 0, canvas.width, canvas.height);
  const write = (text, y, font, colour) => {
    context.font = `${font.replace("SIZE", 14 * scale)} system-ui, sans-serif`;
    context.fillStyle = colour;
    context.fillText(text, margin * scale, y * scale, width * scale);
  };
  write(title, margin + 13, "600 SIZEpx", ink("ink"));
  const top = margin + 1.4 * line;
  paint(context, margin * scale, top * scale, scale);
  broken.forEach(({ text, colour }, i) => write(text, top + height + line * (i + 0.9), "SIZEpx", colour || ink("muted")));
  canvas.toBlob((blob) => save(blob, name), "image/png");
}
