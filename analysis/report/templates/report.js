"use strict";

// The theme is set before anything is drawn; without a choice it is the reader's system's.
const root = document.documentElement;
const THEMES = { "": "Theme: system", light: "Theme: light", dark: "Theme: dark" };
const kept = (store, key) => {
  try {
    return window[store].getItem(key);
  } catch {
    return null; // some browsers keep nothing for pages from files
  }
};
const keep = (store, key, value) => {
  try {
    window[store].setItem(key, value);
  } catch {
    // then the page forgets it
  }
};
const setTheme = (theme) => {
  if (theme) root.dataset.theme = theme;
  else delete root.dataset.theme;
};
setTheme(kept("localStorage", "kd-theme"));

document.addEventListener("DOMContentLoaded", () => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const every = (selector, within = document) => [...within.querySelectorAll(selector)];
  const rows = every("tr.row");

  /** Make an element of text and other elements; never of HTML. */
  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children.filter((child) => child !== null && child !== ""));
    return made;
  }

  // Theme

  const theme = document.getElementById("theme");
  const name = () => (theme.textContent = THEMES[root.dataset.theme || ""]);
  theme.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const next = names[(names.indexOf(root.dataset.theme || "") + 1) % names.length];
    setTheme(next);
    keep("localStorage", "kd-theme", next);
    name();
  });
  name();
  for (const part of [theme, ...every(".scripted, .tools")]) part.hidden = false;

  // Tables: what fits needs no scrolling of its own, so that its heading can stay in sight

  const fit = () => {
    for (const box of every(".scroll")) {
      box.classList.remove("fits");
      box.classList.toggle("fits", box.scrollWidth <= box.clientWidth + 1);
    }
  };
  fit();
  window.addEventListener("resize", fit);
  every("details").forEach((one) => one.addEventListener("toggle", fit));

  // Sorting, within each detector; third click: the order of the study

  const original = new Map(rows.map((row, place) => [row, place]));

  function compare(column, direction, numeric) {
    const value = (row) => row.cells[column].dataset.sort || "";
    return (one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === "" || b === "") return (a === "") - (b === "") || original.get(one) - original.get(other);
      const order = numeric ? a - b : a.localeCompare(b, "en", { numeric: true });
      return direction * order || original.get(one) - original.get(other);
    };
  }

  function sort(heading, direction) {
    const table = heading.closest("table");
    for (const other of every("thead th", table)) other.removeAttribute("aria-sort");
    if (direction) heading.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    const numeric = heading.matches(".num") || ["bar", "seeds"].includes(heading.dataset.key);
    const order = direction
      ? compare(heading.cellIndex, direction, numeric)
      : (one, other) => original.get(one) - original.get(other);
    for (const body of table.tBodies) body.append(...every("tr.row", body).sort(order));
  }

  function next(heading) {
    const first = heading.matches(".num") || heading.dataset.key === "bar" ? -1 : 1;
    const now = { ascending: 1, descending: -1 }[heading.getAttribute("aria-sort")] || 0;
    sort(heading, now === 0 ? first : now === first ? -first : 0);
  }

  for (const heading of every(".results thead th")) {
    // Browsers print buttons on the first page of a table only: the text is there once more for them.
    const printed = element("span", { class: "printed", "aria-hidden": "true" }, heading.textContent);
    const button = element("button", { type: "button" }, ...heading.childNodes);
    button.addEventListener("click", () => next(heading));
    heading.append(button, printed);
  }

  // Filter: a row is shown that has the words, and of each kind of chips one that is pressed

  const FACETS = { detector: "Detector", kind: "Kind", status: "Status", verdict: "Verdict" };
  const WORDS = { teacher: "teacher", baseline: "student alone", distilled: "distilled" };
  const find = document.getElementById("find");
  const chips = document.getElementById("chips");
  const words = new Map(rows.map((row) => [
    row, [row.dataset.detector, ...every("th, td:not(.num)", row).map((cell) => cell.textContent)].join(" ").toLowerCase(),
  ]));

  for (const [facet, title] of Object.entries(FACETS)) {
    const values = [...new Set(rows.map((row) => row.dataset[facet]))].filter(Boolean);
    if (values.length < 2) continue;
    const made = values.map((value) => {
      const attributes = { type: "button", class: "chip", "aria-pressed": "false" };
      const chip = element("button", attributes, WORDS[value] || value);
      Object.assign(chip.dataset, { facet, value });
      chip.addEventListener("click", () => {
        chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
        filter();
      });
      return chip;
    });
    chips.append(element("fieldset", {}, element("legend", {}, title), ...made));
  }

  function filter() {
    const asked = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const pressed = {};
    for (const chip of every('.chip[aria-pressed="true"]')) {
      (pressed[chip.dataset.facet] ??= []).push(chip.dataset.value);
    }
    for (const row of rows) {
      const fits = Object.entries(pressed).every(([facet, values]) => values.includes(row.dataset[facet]));
      row.hidden = !(fits && asked.every((word) => words.get(row).includes(word)));
    }
    for (const body of every(".results tbody")) body.hidden = !body.querySelector("tr.row:not([hidden])");
    for (const table of every("section.table")) table.hidden = !table.querySelector("tbody:not([hidden])");
    const shown = rows.filter((row) => !row.hidden).length;
    document.getElementById("nothing").hidden = shown > 0;
    document.getElementById("found").textContent =
      shown === rows.length ? `${rows.length} rows` : `${shown} of ${rows.length} rows`;
  }
  find.addEventListener("input", filter);
  filter();

  // Provenance: every number opens its runs

  const dialog = document.getElementById("provenance");
  const points = (value, signed) =>
    value === undefined || Number.isNaN(value) ? "\u2013"
      : ((Math.abs(value) < 0.05 ? "" : value < 0 ? "\u2212" : signed ? "+" : "") + Math.abs(value).toFixed(1));

  const listed = (pairs) =>
    element("dl", {}, ...pairs.flatMap(([term, text]) => [element("dt", {}, term), element("dd", {}, text)]));

  /** A part that is made when it is first opened. */
  function folded(title, make) {
    const part = element("details", {}, element("summary", {}, title));
    part.addEventListener("toggle", () => part.children.length < 2 && part.append(make()));
    return part;
  }

  const resolved = (places) =>
    Object.fromEntries(Object.entries(places).map(([key, place]) => [key, data.pool[place]]));

  function run(place, called) {
    const found = data.runs[place];
    const title = `${called}, ${found.state}`;
    const head = [["Directory", found.directory], ["Model", found.name], ["Seed", String(found.seed)]];
    const log = [["Log", found.log]];
    if (found.note) head.push(["Reason", found.note]);
    return folded(title, () => element("div", {},
      listed([...head, ...found.facts, ...log]),
      found.lines.length ? element("pre", {}, found.lines.join("\n")) : "",
      found.packages === null ? "" : folded("Packages", () => listed(Object.entries(data.pool[found.packages]))),
      folded("Composed configuration", () => element("pre", {}, JSON.stringify(resolved(found.config), null, 1)))));
  }

  function seeds(row, key) {
    const figure = row.seeds.some(([, own]) => key in data.runs[own].figures) ? key : row.metric;
    const paired = row.seeds.some(([, , baseline]) => baseline !== null);
    const headings = ["Seed", row.labels[figure] || figure, ...(paired ? ["Student alone", "Gain"] : []), "State"];
    const body = row.seeds.map(([seed, own, baseline]) => {
      const ours = data.runs[own].figures[figure];
      const alone = baseline === null ? undefined : data.runs[baseline].figures[figure];
      const both = paired ? [points(alone), points(ours - alone, true)] : [];
      const cells = [String(seed), points(ours), ...both].map((text) => element("td", { class: "num" }, text));
      return element("tr", {}, ...cells, element("td", {}, data.runs[own].state));
    });
    const head = headings.map((text, at) =>
      element("th", { scope: "col", ...(at < headings.length - 1 && { class: "num" }) }, text));
    return element("div", { class: "scroll" }, element("table", {},
      element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body)));
  }

  function parts(title, places, called) {
    const found = [...new Set(places)];
    return found.length ? [element("h3", {}, title), ...found.map((place) => run(place, called(place)))] : [];
  }

  function open(button) {
    const cell = button.closest("td");
    const row = data.rows[cell.parentElement.dataset.row];
    const own = row.seeds.map(([, place]) => place);
    const baselines = row.seeds.map(([, , place]) => place).filter((place) => place !== null);
    const teachers = own.flatMap((place) => data.runs[place].teachers);
    const seed = (place) => `Seed ${data.runs[place].seed}`;
    const close = element("button", { type: "button", class: "close" }, "Close");
    close.addEventListener("click", () => dialog.close());
    const title = element("h2", { id: "provenance-title" }, row.title);
    const where = element("p", { class: "quiet" }, row.where);
    const number = element("p", { class: "number" }, element("small", {}, row.labels[cell.dataset.key]), button.textContent);
    dialog.replaceChildren(
      element("header", {}, element("div", {}, title, where), close), number,
      element("h3", {}, "Seed by seed"), seeds(row, cell.dataset.key.replace("published_", "")),
      ...(row.facts.length ? [element("h3", {}, "What is said of it"), listed(row.facts)] : []),
      ...(row.published.length ? [element("h3", {}, "Published"), listed(row.published)] : []),
      ...parts("Runs", own, seed), ...parts("Student alone", baselines, seed),
      ...parts("Taught by", teachers, (place) => data.runs[place].name));
    const first = dialog.querySelector("details");
    if (first && own.length === 1) first.open = true;
    dialog.showModal();
    dialog.scrollTop = 0;
    // Not every browser focuses a button that is clicked, and so comes back to it by itself.
    dialog.addEventListener("close", () => button.focus(), { once: true });
  }
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

  for (const row of rows) {
    every("td.num", row).filter((cell) => cell.dataset.sort).forEach((cell, at) => {
      const button = element("button", { type: "button", "aria-haspopup": "dialog", tabindex: at ? -1 : 0 }, ...cell.childNodes);
      cell.append(button);
      button.addEventListener("click", () => open(button));
    });
  }

  // The arrows go from number to number, so that the tabulator passes a row with one step

  const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  document.addEventListener("keydown", (event) => {
    const cell = event.target.closest?.("td");
    if (!(event.key in STEPS) || !cell || event.target.tagName !== "BUTTON" || dialog.open) return;
    const [down, right] = STEPS[event.key];
    const lines = every("tr.row:not([hidden])", cell.closest("table"));
    const line = lines[lines.indexOf(cell.parentElement) + down];
    let target = line?.cells[cell.cellIndex + right];
    while (right && target && !target.querySelector("button")) target = line.cells[target.cellIndex + right];
    const button = target?.querySelector("td button, button");
    if (!button) return;
    event.preventDefault();
    button.focus();
  });

  // A page of a study that is not finished reads itself again, and looks as before

  const STATE = `kd-state ${location.pathname}`;
  const remember = () => keep("sessionStorage", STATE, JSON.stringify({
    scroll: window.scrollY,
    find: find.value,
    chips: every('.chip[aria-pressed="true"]').map((chip) => [chip.dataset.facet, chip.dataset.value]),
    sorted: every("th[aria-sort]").map((heading) => [heading.closest("section").id, heading.dataset.key, heading.getAttribute("aria-sort")]),
    open: every("main details[open]").map((one) => every("main details").indexOf(one)),
  }));

  function restore(state) {
    find.value = state.find;
    for (const chip of every(".chip")) {
      const pressed = state.chips.some(([facet, value]) => facet === chip.dataset.facet && value === chip.dataset.value);
      chip.setAttribute("aria-pressed", String(pressed));
    }
    for (const [table, key, order] of state.sorted) {
      const heading = document.querySelector(`#${table} th[data-key="${CSS.escape(key)}"]`);
      if (heading) sort(heading, order === "ascending" ? 1 : -1);
    }
    every("main details").forEach((one, place) => (one.open ||= state.open.includes(place)));
    filter();
    window.scrollTo(0, state.scroll);
  }

  const seconds = Number(document.body.dataset.reload);
  if (seconds) {
    const before = kept("sessionStorage", STATE);
    if (before) restore(JSON.parse(before));
    window.addEventListener("pagehide", remember);
    setInterval(() => dialog.open || location.reload(), 1000 * seconds);
  }
});
