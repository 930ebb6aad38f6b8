// Puts the page together: what is chosen, and what each part shows of it.
"use strict";

const $ = (id) => document.getElementById(id);

/** An element with a text and attributes. Texts from outside are never markup. */
function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

class Page {
  constructor(head) {
    this.head = head;
    this.loaded = new Map();
    this.chosen = [];
    this.statistic = "mean";
    this.output = 0;
    this.date = 0;
    this.adds = false;
  }

  async start() {
    this.title();
    const first = Math.max(0, this.head.outputs.findIndex((output) => output.rows));
    [this.features, this.rows] = await Promise.all([Features.load(this.head), this.load(first)]);
    this.output = first;
    this.statistic = this.rows.statistics[0];
    this.date = this.fullest();
    this.map = new FeatureMap($("map"), this.features, this);
    this.chart = new SeriesChart($("chart"), $("valid-chart"), this);
    this.table = new FeatureTable($("table"), this.features, this);
    this.controls();
    this.account();
    this.chosen = this.first();
    this.showOutput();
    await this.table.built;
    this.counted(this.features.count);
  }

  /** Rows of an index under a mask, unpacked once. */
  load(output) {
    if (!this.loaded.has(output)) {
      this.loaded.set(output, Rows.load(this.head.outputs[output], dataOf(`page-rows-${output}`)));
    }
    return this.loaded.get(output);
  }

  /** The latest of the dates on which most features have a value. */
  fullest() {
    let best = Math.max(0, this.rows.dates.length - 1);
    for (let date = best; date >= 0; date--) if (this.rows.coverage[date] > this.rows.coverage[best]) best = date;
    return best;
  }

  /** A first feature to look at: one with images, else that with most dates. */
  first() {
    if (this.head.chips.length) return [this.head.chips[0]];
    let best = 0;
    for (let p = 1; p < this.features.count; p++) if (this.rows.count(p) > this.rows.count(best)) best = p;
    return this.features.count ? [best] : [];
  }

  // ------------------------------------------------------------------------------------------- what is shown

  async setOutput(index, mask) {
    const { outputs } = this.head, former = this.rows.dates[this.date];
    const output = outputs.findIndex((one) => one.index === index && one.mask === mask);
    this.rows = await this.load(output);
    this.output = output;
    if (!this.rows.statistics.includes(this.statistic)) this.statistic = this.rows.statistics[0];
    const same = this.rows.dates.indexOf(former);
    this.date = same >= 0 ? same : this.fullest();
    this.showOutput();
  }

  /** Show the rows of another index or mask. */
  showOutput() {
    const slider = $("date"), { dates } = this.rows;
    slider.max = Math.max(0, dates.length - 1);
    slider.disabled = dates.length < 2;
    for (const id of ["previous", "next", "play"]) $(id).disabled = dates.length < 2;
    this.drawCoverage();
    this.showStatistic();
  }

  showStatistic() {
    this.fillStatistics();
    this.drawLegend();
    this.showDate();
    this.showChosen();
    this.table.built.then(() => this.table.refresh({ values: true }));
  }

  setDate(date) {
    const { dates } = this.rows;
    if (!dates.length || date === this.date) return;
    this.date = Math.max(0, Math.min(dates.length - 1, date));
    this.showDate();
    this.chart.mark(this.date);
    for (const chip of document.querySelectorAll(".chip")) chip.classList.toggle("now", Number(chip.dataset.date) === this.date);
    this.showReadings(this.date);
    this.table.built.then(() => this.table.refresh({ values: true }));
  }

  showDate() {
    const { rows, date, features } = this, [low, high] = rows.range(this.statistic);
    const colour = ramp(rampColours(rows.output, this.statistic), low, high);
    this.map.colour((p) => {
      const value = rows.value(this.statistic, rows.at(p, date));
      return value === null ? null : colour(value);
    });
    $("date").value = date;
    if (!rows.dates.length) {
      $("date-text").textContent = "There is no acquisition of this index under this mask.";
      return;
    }
    const when = this.when(date), text = `${rows.coverage[date].toLocaleString("en")} of ${plural(features.count, "feature")} with a value`;
    $("date").setAttribute("aria-valuetext", `${when}, ${text}`);
    $("date-text").replaceChildren(element("strong", when), element("span", text));
    this.drawCoverage();
  }

  /** A date, with its time where the day has several. */
  when(date) {
    const { dates } = this.rows, day = dayOf(dates[date]);
    const isShared = [date - 1, date + 1].some((other) => other in dates && dayOf(dates[other]) === day);
    return dateText(dates[date], isShared);
  }

  // ------------------------------------------------------------------------------------------- chosen features

  /** Choose a feature: alone, or beside those that are chosen already. */
  choose(p, adds = false) {
    if (adds || this.adds) {
      const at = this.chosen.indexOf(p);
      if (at >= 0) this.chosen.splice(at, 1);
      else this.chosen.push(p);
      if (this.chosen.length > MOST) {
        const gone = this.chosen.shift();
        this.say(`At most ${MOST} features are compared; ${this.features.name[gone]} is no longer shown.`);
      }
    } else this.chosen = [p];
    this.showChosen();
    this.table.refresh({ values: false });
    if (this.chosen.includes(p)) {
      this.map.show(p);
      this.table.reveal(p);
      this.say(this.inWords(p));
    } else this.say(`${this.features.name[p]} is no longer shown.`);
  }

  placeOf(p) {
    return this.chosen.indexOf(p);
  }

  showChosen() {
    const { rows, chosen, features } = this;
    this.map.choose(chosen);
    this.chart.date = this.date;
    this.chart.draw(rows, this.statistic, chosen);
    const list = $("chosen");
    list.replaceChildren(...chosen.map((p, i) => {
      const item = element("li"), remove = element("button", "\u00d7", { type: "button", "aria-label": `Take away ${features.name[p]}` });
      remove.addEventListener("click", () => this.choose(p, true));
      const line = element("span", "", { class: "swatch", "aria-hidden": "true" });
      line.style.background = lineColour(i);
      item.append(line, element("span", features.name[p], { class: "name", title: features.name[p] }),
        element("span", features.about(p), { class: "more" }), element("span", "", { class: "reading" }));
      if (chosen.length > 1) item.append(remove);
      return item;
    }));
    if (!chosen.length) list.append(element("li", "Choose a feature on the map, with the search or in the table.", { class: "muted" }));
    const isDrawn = chosen.length > 0 && rows.dates.length > 0;
    $("chart-key").textContent = isDrawn ? this.chart.key() : "";
    if (isDrawn) $("chart-key").append(element("span", " Drag to zoom; click to show a date on the map.", { class: "hint" }));
    $("chart").setAttribute("aria-label", chosen.map((p) => this.inWords(p)).join(" ") || "No feature is chosen.");
    for (const id of ["chart-csv", "chart-png", "chart-zoom"]) $(id).disabled = !chosen.length || !rows.dates.length;
    this.showReadings(this.date);
    this.showChips();
    if ($("values").open) this.fillValues();
  }

  /** Small images of the chosen features that have some: true colour and the index, date by date. */
  showChips() {
    const { rows, features, head, chosen } = this, place = $("chips"), having = chosen.filter((p) => head.chips.includes(p));
    $("images").hidden = !head.chips.length;
    if (!having.length) {
      place.replaceChildren(element("p", "These features have images:", { class: "muted" }), ...head.chips.map((p) => {
        const button = element("button", features.name[p], { type: "button" });
        button.addEventListener("click", () => this.choose(p));
        return button;
      }));
      return;
    }
    this.images ||= new Map();
    place.replaceChildren(...having.flatMap((p) => {
      if (!this.images.has(p)) this.images.set(p, dataOf(`page-chips-${p}`));
      const own = this.images.get(p).filter((chip) => chip.mask === rows.output.mask && (!chip.index || chip.index === rows.output.index));
      const strip = element("div", "", { class: "strip", tabindex: "0", role: "group", "aria-label": `Images of ${features.name[p]}` });
      for (const date of new Set(own.map((chip) => chip.date))) {
        const found = own.filter((chip) => chip.date === date), at = rows.dates.indexOf(date);
        const figure = element("button", "", { type: "button", class: "chip" }), words = `${dateText(date)}, ${found[0].share} % valid`;
        for (const chip of found) {
          const image = element("img", "", { alt: `${features.name[p]}, ${chip.index || "true colour"}, ${words}`, decoding: "async" });
          image.src = `data:image/jpeg;base64,${chip.data}`;
          figure.append(image);
        }
        figure.append(element("span", words));
        figure.classList.toggle("now", at === this.date);
        figure.dataset.date = at;
        figure.addEventListener("click", () => at >= 0 && this.setDate(at));
        strip.append(figure);
      }
      if (!own.length) strip.append(element("p", "There is no image of it with data.", { class: "muted" }));
      return [element("h3", `${features.name[p]}, ${rows.output.index}`), strip];
    }));
  }

  /** Values of the chosen features at a date, beside their names. */
  showReadings(date) {
    const items = $("chosen").querySelectorAll(".reading");
    this.chosen.forEach((p, i) => {
      const { rows, statistic } = this;
      if (!items[i] || date === null || !rows.dates.length) return;
      const row = rows.at(p, date), value = rows.value(statistic, row);
      const spread = statistic === "mean" && row >= 0 ? rows.value("std", row) : undefined;
      const text = valueText(value, statistic);
      const more = typeof spread === "number" ? ` \u00b1 ${valueText(spread, "mean")}` : "";
      const share = value !== null && statistic !== "valid" ? `, ${rows.valid[row]} % valid` : "";
      items[i].textContent = `${this.when(date)}: ${text}${more}${share}`;
    });
  }

  /** One sentence on a feature's series. */
  inWords(p) {
    const { rows, features, statistic } = this, count = rows.count(p), name = features.name[p], { index } = rows.output;
    if (!count) return `${name}: no value of ${index} on any date.`;
    const last = rows.last(p), value = valueText(rows.value(statistic, last), statistic);
    return `${name}: ${plural(count, "date")} with values of ${index}, the latest ${dateText(rows.dates[rows.when[last]])}: ${value}.`;
  }

  /** Text of the map's hint. */
  describe(p) {
    const { rows } = this, row = rows.at(p, this.date);
    return `${this.features.name[p]}: ${valueText(rows.value(this.statistic, row), this.statistic)}`;
  }

  row(p) {
    return this.rows.at(p, this.date);
  }

  hover(date) {
    this.showReadings(date === null ? this.date : date);
  }

  pick(date) {
    this.setDate(date);
  }

  say(text) {
    $("status").textContent = text;
  }

  fillValues() {
    const { rows, features, chosen } = this, table = $("value-table"), names = rows.statistics;
    const head = element("tr");
    for (const title of ["Feature", "Date", ...names.map(nameOf)]) head.append(element("th", title, { scope: "col" }));
    const body = element("tbody");
    for (const p of chosen) {
      for (let row = rows.start[p]; row < rows.start[p + 1]; row++) {
        const line = element("tr");
        line.append(element("td", features.name[p]), element("td", this.when(rows.when[row])));
        for (const name of names) line.append(element("td", valueText(rows.value(name, row), name), { class: "number" }));
        body.append(line);
      }
    }
    const top = element("thead");
    top.append(head);
    table.replaceChildren(top, body);
  }

  // ------------------------------------------------------------------------------------------- controls

  controls() {
    const { outputs } = this.head, names = (key) => [...new Set(outputs.map((output) => output[key]))];
    for (const key of ["index", "mask"]) {
      $(key).replaceChildren(...names(key).map((name) => element("option", name, { value: name })));
      $(key).value = outputs[this.output][key];
      $(key).addEventListener("change", () => this.setOutput($("index").value, $("mask").value));
    }
    $("mask-field").hidden = names("mask").length < 2;
    $("statistic").addEventListener("change", () => {
      this.statistic = $("statistic").value;
      this.showStatistic();
    });
    $("date").addEventListener("input", () => this.setDate(Number($("date").value)));
    $("previous").addEventListener("click", () => this.setDate(this.date - 1));
    $("next").addEventListener("click", () => this.setDate(this.date + 1));
    $("play").addEventListener("click", () => this.play(!this.timer));
    $("whole").addEventListener("click", () => this.map.whole());
    $("compare").addEventListener("click", () => {
      this.adds = !this.adds;
      $("compare").setAttribute("aria-pressed", this.adds);
    });
    $("chart-zoom").addEventListener("click", () => this.chart.wholePeriod());
    $("values").addEventListener("toggle", () => $("values").open && this.fillValues());
    $("clear-filters").addEventListener("click", () => {
      $("search").value = "";
      this.table.clearFilters();
    });
    $("coverage").addEventListener("click", (event) => {
      const box = $("coverage").getBoundingClientRect(), share = (event.clientX - box.left) / box.width;
      this.setDate(Math.floor(share * this.rows.dates.length));
    });
    new ResizeObserver(() => this.drawCoverage()).observe($("coverage").parentElement);
    new Search($("search"), $("found"), this);
    this.downloads();
    this.appearance();
  }

  play(starts) {
    clearInterval(this.timer);
    this.timer = starts ? setInterval(() => this.setDate((this.date + 1) % this.rows.dates.length), 700) : null;
    $("play").textContent = starts ? "Pause" : "Play";
    $("play").setAttribute("aria-pressed", starts);
  }

  fillStatistics() {
    const { statistics } = this.rows, select = $("statistic");
    select.replaceChildren(...statistics.map((name) => element("option", nameOf(name), { value: name })));
    select.value = this.statistic;
  }

  downloads() {
    const name = () => {
      const { index, mask } = this.rows.output;
      return [this.head.layer, index, ...(this.head.outputs.some((one) => one.mask !== mask) ? [mask] : [])].join("_");
    };
    $("chart-csv").addEventListener("click", () =>
      saveCsv(seriesCsv(this.rows, this.features, this.chosen), `${name()}_series.csv`));
    $("table-csv").addEventListener("click", () => saveCsv(this.tableCsv(), `${name()}_${dateText(this.rows.dates[this.date] ?? 0)}.csv`));
    $("map-png").addEventListener("click", () => {
      const box = $("map").getBoundingClientRect(), [low, high] = this.rows.range(this.statistic);
      const colours = rampColours(this.rows.output, this.statistic);
      savePng({
        width: box.width, height: box.height + 34, name: `${name()}_${this.statistic}_${dateText(this.rows.dates[this.date] ?? 0)}.png`,
        title: `${this.head.layer}: ${this.titleOf()}, ${this.rows.dates.length ? this.when(this.date) : ""}`, lines: [],
        paint: (context, x, y, scale) => {
          this.map.drawTo(context, x, y, scale);
          this.paintLegend(context, x, y + (box.height + 10) * scale, scale, colours, [low, high]);
        },
      });
    });
    $("chart-png").addEventListener("click", () => {
      const plots = this.chart.plots, height = plots.reduce((sum, plot) => sum + plot.height, 0);
      savePng({
        width: plots[0].width, height, name: `${name()}_series.png`, title: `${this.head.layer}: ${this.titleOf()}`,
        lines: [
          ...this.chosen.map((p, i) => ({ text: `\u25cf ${this.features.name[p]}`, colour: lineColour(i) })),
          { text: this.chart.key() },
        ],
        paint: (context, x, y, scale) => {
          let low = y;
          for (const plot of plots) {
            context.drawImage(plot.ctx.canvas, x, low, plot.width * scale, plot.height * scale);
            low += plot.height * scale;
          }
        },
      });
    });
  }

  paintLegend(context, x, y, scale, colours, [low, high]) {
    const width = 220 * scale, height = 10 * scale, gradient = context.createLinearGradient(x, 0, x + width, 0);
    colours.forEach((colour, i) => gradient.addColorStop(i / (colours.length - 1), colour));
    context.fillStyle = gradient;
    context.fillRect(x, y, width, height);
    context.font = `${12 * scale}px system-ui, sans-serif`;
    context.fillStyle = ink("muted");
    context.fillText(this.tick(low), x, y + 23 * scale);
    const end = this.tick(high);
    context.fillText(end, x + width - context.measureText(end).width, y + 23 * scale);
    context.fillStyle = this.map.hatch;
    context.fillRect(x + width + 20 * scale, y, 18 * scale, height);
    context.fillStyle = ink("muted");
    context.fillText("no value", x + width + 44 * scale, y + 10 * scale);
  }

  /** Rows of the table as it is filtered and sorted. */
  tableCsv() {
    const { rows, features, statistic } = this, date = rows.dates.length ? this.when(this.date) : "";
    const lines = [[
      "fid", "name", ...features.columns.map((column) => column.name), "dates", `${statistic} ${date}`.trim(), `latest ${statistic}`, "latest date",
    ]];
    for (const p of this.table.shown()) {
      const last = rows.last(p);
      lines.push([
        features.fid[p], features.name[p], ...features.columns.map((column) => column.values[p]), rows.count(p),
        plain(rows.value(statistic, this.row(p))), plain(rows.value(statistic, last)), last < 0 ? null : dateText(rows.dates[rows.when[last]], true),
      ]);
    }
    return lines;
  }

  /** Light and dark: as the system says, until the button is pressed. Print is always light. */
  appearance() {
    const system = matchMedia("(prefers-color-scheme: dark)");
    const paint = (dark) => {
      document.documentElement.dataset.theme = dark ? "dark" : "light";
      $("theme").setAttribute("aria-pressed", dark);
      if (!this.map) return;
      this.map.repaint();
      this.drawLegend();
      this.showDate();
      this.showChosen();
      this.table.built.then(() => this.table.refresh({ values: false }));
    };
    let isOwn = false;
    system.addEventListener("change", () => !isOwn && paint(system.matches));
    $("theme").addEventListener("click", () => {
      isOwn = true;
      paint(!isDark());
    });
    $("theme").setAttribute("aria-pressed", isDark());
    $("print").addEventListener("click", () => window.print());
    let wasDark = false;
    window.addEventListener("beforeprint", () => {
      wasDark ||= isDark();
      if (isDark()) paint(false);
      $("values").open = this.chosen.length > 0;
      this.fillValues();
    });
    window.addEventListener("afterprint", () => {
      if (wasDark) paint(true);
      wasDark = false;
    });
  }

  // ------------------------------------------------------------------------------------------- texts

  title() {
    const { head } = this, { outputs } = head, named = (key) => [...new Set(outputs.map((output) => output[key]))];
    const known = outputs.flatMap((output) => output.period);
    const period = known.length ? [Math.min(...known), Math.max(...known)].map((seconds) => dateText(seconds)).join(" to ") : "no dates";
    $("title").textContent = head.layer;
    $("subtitle").replaceChildren(...[
      named("index").join(", "),
      period,
      head.count === head.ofLayer ? plural(head.count, "feature") : `${head.count.toLocaleString("en")} of ${plural(head.ofLayer, "feature")}`,
      plural(outputs.reduce((sum, output) => sum + output.rows, 0), "row"),
      `${named("mask").length > 1 ? "masks" : "mask"} ${named("mask").join(", ")}`,
    ].map((text) => element("span", text)));
    $("notes").replaceChildren(...head.notes.map((text) => element("p", text, { class: "note" })));
    const empty = outputs.filter((output) => !output.rows);
    // The reasons of many stand below.
    const names = empty.map((output) => `${output.index} under ${output.mask}`);
    const why = empty.length > 2
      ? [`${empty.length} of ${outputs.length} have no value on any date: ${names.slice(0, 4).join(", ")}${empty.length > 4 ? ", ..." : ""}. The reasons stand below.`]
      : empty.map((output, i) => {
        const reason = head.reasons.find((one) => one.index === output.index && one.mask === output.mask);
        return `${names[i]} has no value on any date. ${reason?.why ?? ""}`.trim();
      });
    $("notes").append(...why.map((text) => element("p", text, { class: "note warning" })));
  }

  /** What is shown, as NDVI, mean. */
  titleOf() {
    const { index, mask } = this.rows.output, several = new Set(this.head.outputs.map((output) => output.mask)).size > 1;
    return `${index}, ${nameOf(this.statistic).toLowerCase()}${several ? `, ${mask}` : ""}`;
  }

  tick(value) {
    return this.statistic === "valid" ? `${value} %` : String(+value.toPrecision(3)).replace("-", "\u2212");
  }

  drawLegend() {
    const { rows, statistic } = this, [low, high] = rows.range(statistic), colours = rampColours(rows.output, statistic);
    const bar = element("span", "", { class: "ramp" }), hatch = element("span", "", { class: "hatch" });
    bar.style.background = `linear-gradient(to right, ${colours.join(", ")})`;
    const ticks = element("span", "", { class: "ticks" });
    ticks.append(...[0, 0.25, 0.5, 0.75, 1].map((share) => element("span", this.tick(low + share * (high - low)))));
    const scale = element("span", "", { class: "scale" });
    scale.append(bar, ticks);
    const none = element("span", "no value (the reasons are below)", { class: "none" });
    none.prepend(hatch);
    const fitted = rows.output.isFitted && statistic !== "valid" && !SPREADS.has(statistic) ? " (range of these values)" : "";
    $("legend").replaceChildren(element("span", `${this.titleOf()}${fitted}`, { class: "legend-title" }), scale, none);
  }

  /** Bars over the slider: the share of features with a value at each date. */
  drawCoverage() {
    const canvas = $("coverage"), { rows, features } = this, ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight, count = rows.dates.length;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const context = canvas.getContext("2d"), step = canvas.width / Math.max(1, count);
    for (let date = 0; date < count; date++) {
      const bar = Math.max(1.5 * ratio, (rows.coverage[date] / Math.max(1, features.count)) * canvas.height);
      context.fillStyle = date === this.date ? ink("accent") : ink("bar");
      context.fillRect(date * step, canvas.height - bar, Math.max(1, step - Math.min(2 * ratio, 0.2 * step)), bar);
    }
  }

  counted(count) {
    $("table-count").textContent = count === this.features.count ? plural(count, "feature") : `${count.toLocaleString("en")} of ${plural(this.features.count, "feature")}`;
  }

  /** Reasons, remarks, parameters and versions. */
  account() {
    const { reasons, remarks, facts } = this.head, place = $("reasons");
    for (const one of reasons) {
      place.append(element("h3", `${one.index} under ${one.mask}`));
      place.append(element("p", `${plural(one.acquisitions, "acquisition")}, ${plural(one.rows, "row")}.${one.rows ? "" : ` ${one.why}`}`, { class: "muted" }));
      if (!one.counts.length) continue;
      const table = element("table", "", { class: "counts" }), body = element("tbody"), head = element("tr");
      for (const title of ["Features left out", "Reason"]) head.append(element("th", title, { scope: "col" }));
      for (const [, sentence, count] of one.counts) {
        const line = element("tr");
        line.append(element("td", count.toLocaleString("en"), { class: "number" }), element("td", sentence));
        body.append(line);
      }
      const top = element("thead");
      top.append(head);
      table.append(top, body);
      place.append(table);
    }
    if (remarks.length) {
      const list = element("ul");
      list.append(...remarks.map((text) => element("li", text)));
      place.append(element("h3", "Remarks"), list);
    }
    if (!place.children.length) place.append(element("p", "Nothing was left out.", { class: "muted" }));
    for (const [name, value] of facts) $("facts").append(element("dt", name), element("dd", value));
    for (const library of dataOf("page-licences")) {
      $("licences").append(element("h3", `${library.name} ${library.version}, ${library.licence}`), element("pre", library.text));
    }
  }
}

/** The search: a text field with a list of what it finds; it filters the table too. */
class Search {
  constructor(input, list, page) {
    Object.assign(this, { input, list, page, found: [], at: 0 });
    input.addEventListener("input", () => this.look());
    input.addEventListener("focus", () => input.value && this.look());
    input.addEventListener("blur", () => setTimeout(() => this.close(), 150));
    input.addEventListener("keydown", (event) => this.key(event));
  }

  look() {
    const { page, input } = this, text = input.value.trim();
    const found = page.features.search(text);
    page.table.only(text ? found : null);
    this.found = found.slice(0, 8);
    this.at = 0;
    this.list.replaceChildren(...this.found.map((p, i) => {
      const item = element("li", page.features.name[p], { role: "option", id: `found-${i}` });
      item.append(element("span", page.features.about(p), { class: "muted" }));
      item.addEventListener("mousedown", (event) => {
        event.preventDefault();
        this.take(i, event.ctrlKey || event.metaKey || event.shiftKey);
      });
      return item;
    }));
    if (!this.found.length && text) this.list.append(element("li", "No feature has this text.", { class: "muted" }));
    this.list.hidden = !text;
    this.input.setAttribute("aria-expanded", String(Boolean(text)));
    this.mark();
    if (text) page.say(`${plural(found.length, "feature")} found.`);
  }

  mark() {
    [...this.list.children].forEach((item, i) => item.setAttribute("aria-selected", String(i === this.at && this.found.length > 0)));
    if (this.found.length && !this.list.hidden) this.input.setAttribute("aria-activedescendant", `found-${this.at}`);
    else this.input.removeAttribute("aria-activedescendant");
  }

  key(event) {
    if (event.key === "Escape") this.close();
    else if (event.key === "Enter" && this.found.length) this.take(this.at, event.shiftKey || event.ctrlKey);
    else if (event.key === "ArrowDown" && this.found.length) this.at = (this.at + 1) % this.found.length;
    else if (event.key === "ArrowUp" && this.found.length) this.at = (this.at + this.found.length - 1) % this.found.length;
    else return;
    if (event.key !== "Escape") event.preventDefault();
    this.mark();
  }

  take(i, adds) {
    this.page.choose(this.found[i], adds);
    this.close();
  }

  close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }
}

/** Say why nothing is drawn. */
function fail(text) {
  $("problem").hidden = false;
  $("problem").textContent = text;
}

document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
const page = new Page(dataOf("page-head"));
if (typeof DecompressionStream === "undefined") fail("This browser is too old for the page; it needs one of 2023 or later.");
else {
  page.start().then(() => requestAnimationFrame(() => requestAnimationFrame(() => {
    performance.mark("drawn");
    document.documentElement.dataset.ready = "true";
  }))).catch((error) => {
    fail(`The page could not be drawn: ${error.message}`);
    throw error;
  });
}
