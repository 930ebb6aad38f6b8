// The table of all features: sorted, filtered, and chosen from, by mouse and by keyboard.
"use strict";

/** Whether a number passes a filter as people write it: > 3, <= 5, 2..4, 7. */
function numberPasses(text, value) {
  const asked = text.replace("\u2212", "-").replace(",", ".").trim();
  const range = /^(-?[\d.]+)\s*\.\.\s*(-?[\d.]+)$/.exec(asked);
  if (value === null || value === undefined) return false;
  if (range) return value >= Number(range[1]) && value <= Number(range[2]);
  const compared = /^(<=|>=|<|>|=)?\s*(-?[\d.]+)$/.exec(asked);
  if (!compared) return true; // unfinished, as "> "
  const limit = Number(compared[2]);
  switch (compared[1]) {
    case "<": return value < limit;
    case "<=": return value <= limit;
    case ">": return value > limit;
    case ">=": return value >= limit;
    default: return value === limit || String(value).startsWith(compared[2]);
  }
}

/** Order of two values, those that are missing last in both directions. */
function order(a, b, direction) {
  const isMissing = (value) => value === null || value === undefined || value === "";
  if (isMissing(a) || isMissing(b)) return (isMissing(a) - isMissing(b)) * (direction === "desc" ? -1 : 1);
  return typeof a === "number" && typeof b === "number" ? a - b : COLLATOR.compare(String(a), String(b));
}
const COLLATOR = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

class FeatureTable {
  /** @param page what it asks: `choose(p, adds)`, `row(p)` at the date of the map, `rows`, `statistic`, `isChosen(p)` */
  constructor(place, features, page) {
    Object.assign(this, { place, features, page });
    this.table = new Tabulator(place, {
      data: Array.from({ length: features.count }, (_, p) => ({ p })),
      index: "p", maxHeight: "min(26rem, 70vh)", layout: "fitDataStretch", columns: this.columns(),
      rowFormatter: (row) => this.paint(row), placeholder: "No feature passes the filters.",
      nestedFieldSeparator: false, headerSortClickElement: "header", rowHeight: 34,
    });
    this.built = new Promise((resolve) => this.table.on("tableBuilt", resolve));
    this.table.on("rowClick", (event, row) => {
      this.page.choose(row.getData().p, event.ctrlKey || event.metaKey || event.shiftKey || event.target.closest(".tick"));
      this.focus(row);
    });
    this.table.on("dataFiltered", (_, rows) => this.page.counted(rows.length));
    this.built.then(() => this.useKeyboard());
  }

  /** A column whose values are found for each feature when they are needed. */
  column(title, valueOf, kind, options = {}) {
    const show = options.show || ((value) => (value === null || value === undefined ? "" : String(value)));
    const isNumber = kind === "number";
    return {
      title, titleFormatter: "plaintext", field: options.field, tooltip: (_, cell) => textNode(show(valueOf(cell.getData().p))),
      // A node, never markup: attributes come from outside.
      formatter: (cell) => textNode(show(valueOf(cell.getData().p))),
      sorter: (_, __, a, b, ___, direction) => order(valueOf(a.getData().p), valueOf(b.getData().p), direction),
      hozAlign: isNumber ? "right" : "left", headerHozAlign: isNumber ? "right" : "left", maxInitialWidth: 260, minWidth: 84,
      headerFilter: "input", headerFilterPlaceholder: isNumber ? "> 0" : "filter",
      headerFilterParams: { elementAttributes: { "aria-label": `Filter ${title}`, spellcheck: "false" } },
      headerFilterLiveFilter: true,
      headerFilterFunc: (asked, _, data) => {
        const value = valueOf(data.p);
        return isNumber ? numberPasses(asked, value) : String(value ?? "").toLowerCase().includes(asked.trim().toLowerCase());
      },
      valueOf, isComputed: Boolean(options.isComputed),
    };
  }

  columns() {
    const { features, page } = this, last = (p) => page.rows.last(p);
    // Names that say no more than another column are left out.
    const named = features.name.some((name, p) => name !== `fid ${features.fid[p]}`) &&
      !features.columns.some((column) => features.name.every((name, p) => name === String(column.values[p] ?? `fid ${features.fid[p]}`)));
    const shown = (value) => (value === null ? "" : valueText(value, page.statistic));
    this.made = [
      this.column("fid", (p) => features.fid[p], "number", { field: "fid" }),
      ...(named ? [this.column("name", (p) => features.name[p], "text", { field: "name" })] : []),
      ...features.columns.map((column, i) =>
        this.column(column.name, (p) => column.values[p], column.kind, { field: `attribute${i}` })),
      this.column("dates", (p) => page.rows.count(p), "number", { field: "dates", isComputed: true }),
      this.column("on the date", (p) => page.rows.value(page.statistic, page.row(p)), "number", { field: "now", show: shown, isComputed: true }),
      this.column("latest", (p) => page.rows.value(page.statistic, last(p)), "number", { field: "latest", show: shown, isComputed: true }),
      this.column("latest date", (p) => (last(p) < 0 ? null : dateText(page.rows.dates[page.rows.when[last(p)]])), "text", { field: "when", isComputed: true }),
    ];
    const tick = {
      title: "", field: "p", headerSort: false, width: 40, hozAlign: "center", resizable: false,
      cssClass: "tick", frozen: true, formatter: (cell) => {
        const mark = textNode("");
        mark.className = "mark";
        const place = page.placeOf(cell.getData().p);
        if (place >= 0) mark.style.background = lineColour(place);
        return mark;
      },
    };
    const known = new Set(["valueOf", "isComputed"]);
    return [tick, ...this.made.map((made) => Object.fromEntries(Object.entries(made).filter(([key]) => !known.has(key))))];
  }

  paint(row) {
    const element = row.getElement(), chosen = this.page.placeOf(row.getData().p) >= 0;
    element.classList.toggle("chosen-row", chosen);
    element.setAttribute("aria-selected", String(chosen));
    element.tabIndex = this.current === undefined || this.current === row.getData().p ? 0 : -1;
  }

  /** Keys: arrows move between rows, Enter shows a feature alone, Space adds it; headers sort with Enter. */
  useKeyboard() {
    for (const column of this.table.getColumns()) {
      const title = column.getElement().querySelector(".tabulator-col-title-holder");
      if (!title || !column.getDefinition().headerFilter) continue;
      const name = column.getDefinition().title;
      title.tabIndex = 0;
      title.setAttribute("role", "button");
      title.setAttribute("aria-label", `Sort by ${name}`);
      title.addEventListener("keydown", (event) => {
        if (event.target !== title || (event.key !== "Enter" && event.key !== " ")) return;
        event.preventDefault();
        const sorted = this.table.getSorters().find((sorter) => sorter.field === column.getField());
        this.table.setSort(column.getField(), sorted?.dir === "asc" ? "desc" : "asc");
      });
    }
    const body = this.place.querySelector(".tabulator-tableholder");
    body.addEventListener("keydown", (event) => {
      const element = event.target.closest(".tabulator-row");
      if (!element) return;
      const row = this.table.getRow(this.positionOf(element));
      if (!row) return;
      if (event.key === "Enter" || event.key === " ") this.page.choose(row.getData().p, event.key === " ");
      else if (event.key === "ArrowDown") this.move(row.getNextRow());
      else if (event.key === "ArrowUp") this.move(row.getPrevRow());
      else return;
      event.preventDefault();
    });
  }

  positionOf(element) {
    const row = this.table.getRows("visible").find((one) => one.getElement() === element);
    return row ? row.getData().p : -1;
  }

  async move(row) {
    if (!row) return;
    await this.table.scrollToRow(row, "nearest", false).catch(() => null);
    this.focus(row);
  }

  focus(row) {
    const former = this.current;
    this.current = row.getData().p;
    for (const one of this.table.getRows("visible")) one.getElement().tabIndex = -1;
    row.getElement().tabIndex = 0;
    if (former !== this.current || document.activeElement !== row.getElement()) row.getElement().focus({ preventScroll: true });
  }

  /** Show other values, another date or other chosen features. */
  refresh({ values }) {
    if (values) {
      const computed = new Set(this.made.filter((made) => made.isComputed).map((made) => made.field));
      const sorters = this.table.getSorters().map(({ field, dir }) => ({ column: field, dir }));
      if (sorters.some((sorter) => computed.has(sorter.column))) this.table.setSort(sorters);
      if (this.table.getHeaderFilters().some((filter) => computed.has(filter.field))) this.table.refreshFilter();
    }
    // Rows beside the visible ones are drawn already, and would show what was before.
    for (const row of this.table.getRows()) if (row._row.initialized) row.reformat();
  }

  /** Filter by the search; null shows all. */
  only(positions) {
    const kept = positions && new Set(positions);
    if (kept) this.table.setFilter((data) => kept.has(data.p));
    else this.table.clearFilter();
  }

  clearFilters() {
    this.table.clearFilter(true);
  }

  /** Positions of the rows that pass the filters, in the order shown. */
  shown() {
    return this.table.getRows("active").map((row) => row.getData().p);
  }

  /** Bring a feature's row into view. */
  reveal(p) {
    const row = this.table.getRow(p);
    if (row) this.table.scrollToRow(row, "nearest", false).catch(() => null);
  }
}

function textNode(text) {
  const node = document.createElement("span");
  node.textContent = text;
  return node;
}
