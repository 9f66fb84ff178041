"use strict";

// Set the theme before anything is drawn; the default is the theme of the system.
const root = document.documentElement;
root.classList.add("scripted-page");
const THEMES = { "": "Theme: system", light: "Theme: light", dark: "Theme: dark" };
const read = (store, key) => {
  try {
    return window[store].getItem(key);
  } catch {
    return null; // some browsers have no storage for pages from files
  }
};
const save = (store, key, value) => {
  try {
    window[store].setItem(key, value);
  } catch {
    // without storage the choice lasts until the page is closed
  }
};
const setTheme = (theme) => {
  if (theme) root.dataset.theme = theme;
  else delete root.dataset.theme;
};
setTheme(read("localStorage", "kd-theme"));

document.addEventListener("DOMContentLoaded", () => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const every = (selector, within = document) => [...within.querySelectorAll(selector)];
  const rows = every("tr.row");

  /** Create an element from text and other elements, never from HTML. */
  function element(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children.filter((child) => child !== null && child !== ""));
    return node;
  }

  // Theme

  const theme = document.getElementById("theme");
  const name = () => (theme.textContent = THEMES[root.dataset.theme || ""]);
  theme.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const next = names[(names.indexOf(root.dataset.theme || "") + 1) % names.length];
    setTheme(next);
    save("localStorage", "kd-theme", next);
    name();
  });
  name();
  for (const part of [theme, ...every(".scripted, .tools")]) part.hidden = false;

  // Tables that fit get no scroll box, so that their headings stay visible

  const fit = () => {
    for (const box of every(".scroll")) {
      box.classList.remove("fits");
      const fits = box.scrollWidth <= box.clientWidth + 1;
      box.classList.toggle("fits", fits);
      if (fits) box.removeAttribute("tabindex");
      else box.tabIndex = 0;
    }
  };
  fit();
  window.addEventListener("resize", fit);
  every("details").forEach((part) => part.addEventListener("toggle", fit));

  // Sorting within each detector; the third click restores the order of the study

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
    // Browsers print buttons only on the first page of a table, so paper gets a second copy of the text.
    const copies = [...heading.childNodes].map((node) => node.cloneNode(true));
    const printed = element("span", { class: "printed", "aria-hidden": "true" }, ...copies);
    const button = element("button", { type: "button" }, ...heading.childNodes);
    button.addEventListener("click", () => next(heading));
    heading.append(button, printed);
  }

  // Filter: a row must contain all words, and match a pressed chip of each kind

  const FACETS = { detector: "Detector", kind: "Kind", state: "State", judgment: "Judgment", verdict: "Verdict" };
  const find = document.getElementById("find");
  const chips = document.getElementById("chips");
  const words = new Map(rows.map((row) => [
    row, [row.dataset.detector, row.dataset.models, ...every("th, td:not(.num)", row).map((cell) => cell.textContent)].join(" ").toLowerCase(),
  ]));

  for (const [facet, title] of Object.entries(FACETS)) {
    const values = [...new Set(rows.map((row) => row.dataset[facet]))].filter(Boolean);
    if (values.length < 2) continue;
    const buttons = values.map((value) => {
      const attributes = { type: "button", class: "chip", "aria-pressed": "false" };
      const chip = element("button", attributes, value);
      Object.assign(chip.dataset, { facet, value });
      chip.addEventListener("click", () => {
        chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
        filter();
      });
      return chip;
    });
    chips.append(element("fieldset", {}, element("legend", {}, title), ...buttons));
  }

  /** Show an address without an entry in the history; an empty one leaves the address without a hash. */
  function address(parts) {
    const hash = parts.toString().replaceAll("%2F", "/");
    if (hash || location.hash.includes("=")) history.replaceState(null, "", hash ? `#${hash}` : location.href.split("#")[0]);
  }

  function filterAddress() {
    const parts = new URLSearchParams();
    if (find.value) parts.set("q", find.value);
    for (const chip of every('.chip[data-facet][aria-pressed="true"]')) parts.append(chip.dataset.facet, chip.dataset.value);
    return parts;
  }

  /** Set the filter, or open the row, that the address names. */
  function visit() {
    if (!location.hash.includes("=")) return filter();
    const parts = new URLSearchParams(location.hash.slice(1));
    find.value = parts.get("q") || "";
    for (const chip of every(".chip[data-facet]")) {
      chip.setAttribute("aria-pressed", String(parts.getAll(chip.dataset.facet).includes(chip.dataset.value)));
    }
    const key = parts.get("row");
    const cell = parts.get("cell");
    filter();
    const row = key && rows.find((one) => data.rows[one.dataset.row].key === key);
    const button = row?.querySelector(`td[data-key="${CSS.escape(cell || "gain")}"] button`) || row?.querySelector("td button");
    if (!button) return;
    button.scrollIntoView({ block: "center" });
    open(button);
  }

  function filter() {
    const query = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const pressed = {};
    for (const chip of every('.chip[data-facet][aria-pressed="true"]')) {
      (pressed[chip.dataset.facet] ??= []).push(chip.dataset.value);
    }
    for (const row of rows) {
      const fits = Object.entries(pressed).every(([facet, values]) => values.includes(row.dataset[facet]));
      row.hidden = !(fits && query.every((word) => words.get(row).includes(word)));
    }
    for (const body of every(".results tbody")) body.hidden = !body.querySelector("tr.row:not([hidden])");
    for (const table of every("section.table")) table.hidden = !table.querySelector("tbody:not([hidden])");
    const visible = rows.filter((row) => !row.hidden).length;
    document.getElementById("nothing").hidden = visible > 0;
    document.getElementById("matches").textContent =
      visible === rows.length ? `${rows.length} rows` : `${visible} of ${rows.length} rows`;
    address(filterAddress());
  }
  find.addEventListener("input", filter);

  // Columns of costs are shown on request

  const cost = document.getElementById("cost");
  cost.hidden = !document.querySelector(".cost");
  cost.addEventListener("click", () => {
    cost.setAttribute("aria-pressed", String(root.toggleAttribute("data-cost")));
    fit();
  });

  // Provenance: a click on a number opens its runs

  const dialog = document.getElementById("provenance");
  const points = (value, signed) =>
    value === undefined || Number.isNaN(value) ? "\u2013"
      : ((Math.abs(value) < 0.05 ? "" : value < 0 ? "\u2212" : signed ? "+" : "") + Math.abs(value).toFixed(1));

  const definitions = (pairs) =>
    element("dl", {}, ...pairs.flatMap(([term, text]) => [element("dt", {}, term), element("dd", {}, text)]));

  /** Return a folded part whose content is created when it is first opened. */
  function folded(title, create) {
    const part = element("details", {}, element("summary", {}, title));
    part.addEventListener("toggle", () => part.children.length < 2 && part.append(create()));
    return part;
  }

  const resolved = (indices) =>
    Object.fromEntries(Object.entries(indices).map(([key, index]) => [key, data.pool[index]]));

  function runPart(index, label) {
    const run = data.runs[index];
    const title = `${label}, ${run.state}`;
    const head = [["Directory", run.directory], ["Model", run.name], ["Seed", String(run.seed)]];
    const log = [["Log", run.log]];
    if (run.note) head.push(["Reason", run.note]);
    return folded(title, () => element("div", {},
      definitions([...head, ...run.facts, ...log]),
      run.lines.length ? element("pre", { tabindex: 0 }, run.lines.join("\n")) : "",
      run.packages === null ? "" : folded("Packages", () => definitions(Object.entries(data.pool[run.packages]))),
      folded("Composed configuration", () => element("pre", { tabindex: 0 }, JSON.stringify(resolved(run.config), null, 1)))));
  }

  function seeds(row, key) {
    const metric = row.seeds.some(([, index]) => key in data.runs[index].points) ? key : row.metric;
    const paired = row.seeds.some(([, , baseline]) => baseline !== null);
    const headings = ["Seed", row.labels[metric] || metric, ...(paired ? ["Baseline", "Gain"] : []), "State"];
    const body = row.seeds.map(([seed, index, baseline]) => {
      const value = data.runs[index].points[metric];
      const reference = baseline === null ? undefined : data.runs[baseline].points[metric];
      const gain = paired ? [points(reference), points(value - reference, true)] : [];
      const cells = [String(seed), points(value), ...gain].map((text) => element("td", { class: "num" }, text));
      return element("tr", {}, ...cells, element("td", {}, data.runs[index].state));
    });
    const head = headings.map((text, at) =>
      element("th", { scope: "col", ...(at < headings.length - 1 && { class: "num" }) }, text));
    return element("div", { class: "scroll" }, element("table", {},
      element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body)));
  }

  function parts(title, indices, label) {
    const runs = [...new Set(indices)];
    return runs.length ? [element("h3", {}, title), ...runs.map((index) => runPart(index, label(index)))] : [];
  }

  function open(button) {
    const cell = button.closest("td");
    const row = data.rows[cell.parentElement.dataset.row];
    const runs = row.seeds.map(([, index]) => index);
    const baselines = row.seeds.map(([, , index]) => index).filter((index) => index !== null);
    const teachers = runs.flatMap((index) => data.runs[index].teachers);
    const seed = (index) => `Seed ${data.runs[index].seed}`;
    const close = element("button", { type: "button", class: "close" }, "Close");
    close.addEventListener("click", () => dialog.close());
    const title = element("h2", { id: "provenance-title" }, row.title);
    const where = element("p", { class: "quiet" }, row.where);
    const number = element("p", { class: "number" }, element("small", {}, row.labels[cell.dataset.key]), button.textContent.replace(/\s+/g, " "));
    dialog.replaceChildren(
      element("header", {}, element("div", {}, title, where), close), number,
      element("h3", {}, "Seed by seed"), seeds(row, cell.dataset.key.replace("published_", "")),
      ...(row.facts.length ? [element("h3", {}, "Statistics"), definitions(row.facts)] : []),
      ...(row.published.length ? [element("h3", {}, "Published"), definitions(row.published)] : []),
      ...parts("Runs", runs, seed), ...parts("Baseline", baselines, seed),
      ...parts("Teacher", teachers, (index) => data.runs[index].name));
    const first = dialog.querySelector("details");
    if (first && runs.length === 1) first.open = true;
    dialog.showModal();
    dialog.scrollTop = 0;
    address(new URLSearchParams({ row: row.key, cell: cell.dataset.key }));
    // Some browsers do not focus a clicked button, and so do not return the focus to it.
    dialog.addEventListener("close", () => {
      button.focus();
      address(filterAddress());
    }, { once: true });
  }
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

  for (const row of rows) {
    every("td.num", row).filter((cell) => cell.dataset.sort).forEach((cell, at) => {
      const button = element("button", { type: "button", "aria-haspopup": "dialog", tabindex: at ? -1 : 0 }, ...cell.childNodes);
      cell.append(button);
      button.addEventListener("click", () => open(button));
    });
  }

  visit();
  window.addEventListener("hashchange", () => dialog.open || visit());

  // Commands and texts to paste get a button that copies them

  /** Copy a text; pages from files may have no clipboard, but can copy a selection. */
  async function copy(part, button) {
    const text = [...part.childNodes].filter((node) => node !== button).map((node) => node.textContent).join("").trim();
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const field = element("textarea", { class: "unseen" });
      field.value = text;
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
    button.textContent = "Copied";
  }

  for (const part of every("pre.command, .copied, code.command")) {
    const button = element("button", { type: "button", class: "copy" }, "Copy");
    button.addEventListener("click", () => copy(part, button));
    if (part.matches("code")) part.after(button);
    else part.prepend(button);
  }

  // Arrow keys move from number to number; the tab key passes a row in one step

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

  // The page of an unfinished study reloads itself and restores its view

  const STATE = `kd-state ${location.pathname}`;
  const remember = () => save("sessionStorage", STATE, JSON.stringify({
    scroll: window.scrollY,
    find: find.value,
    chips: every('.chip[data-facet][aria-pressed="true"]').map((chip) => [chip.dataset.facet, chip.dataset.value]),
    sorted: every("th[aria-sort]").map((heading) => [heading.closest("section").id, heading.dataset.key, heading.getAttribute("aria-sort")]),
    open: every("main details[open]").map((one) => every("main details").indexOf(one)),
  }));

  function restore(state) {
    find.value = state.find;
    for (const chip of every(".chip[data-facet]")) {
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
    const before = read("sessionStorage", STATE);
    history.scrollRestoration = "manual";
    if (before) restore(JSON.parse(before));
    window.addEventListener("pagehide", remember);
    setInterval(() => dialog.open || location.reload(), 1000 * seconds);
  }
});
