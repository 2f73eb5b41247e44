"use strict";
// What moves on the page: charts, sorting, the theme, the examples. Texts of models and users are
// only ever set as text, never as markup.
(() => {
  const data = (id) => JSON.parse(document.getElementById(id).textContent);

  function element(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name === "text") fill(made, value);
      else if (value !== null && value !== undefined) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  // Text in which the named invisible characters stand out.
  function fill(into, text) {
    for (const part of String(text).split(/(⟦U\+[0-9A-F]{4,6}⟧)/)) {
      if (/^⟦U\+/.test(part)) {
        const mark = document.createElement("mark");
        mark.textContent = part.slice(1, -1);
        into.append(mark);
      } else if (part) into.append(part);
    }
  }

  // ---- Charts --------------------------------------------------------------------------------
  function draw(charts) {
    const options = {
      mode: "vega-lite",
      ast: true, // no eval: expressions run in Vega's interpreter
      renderer: "svg",
      actions: false,
      tooltip: false,
      defaultStyle: false,
    };
    const drawn = charts.map(({ id, spec }) => window.vegaEmbed(`#${id}`, spec, options));
    return Promise.all(drawn).then(
      () => document.documentElement.setAttribute("data-charts", "drawn"),
      (error) => console.error(String(error)),
    );
  }

  // ---- Theme ---------------------------------------------------------------------------------
  function theme() {
    const root = document.documentElement;
    const button = document.getElementById("theme");
    const system = window.matchMedia("(prefers-color-scheme: dark)");
    const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
    const say = () => {
      button.textContent = dark() ? "Light" : "Dark";
      button.setAttribute("aria-label", `Switch to ${dark() ? "light" : "dark"} colours`);
    };
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      say();
    });
    system.addEventListener("change", say);
    say();
    button.hidden = false;
  }

  // ---- Sorting -------------------------------------------------------------------------------
  function sortable(table) {
    const heads = [...table.querySelectorAll("thead th[data-sort]")];
    for (const head of heads) {
      const button = element("button", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const first = head.dataset.first || (head.dataset.sort === "text" ? "ascending" : "descending");
        const other = first === "ascending" ? "descending" : "ascending";
        const order = head.getAttribute("aria-sort") === first ? other : first;
        for (const one of heads) one.setAttribute("aria-sort", one === head ? order : "none");
        sort(table, column(table, head), head.dataset.sort, order === "ascending" ? 1 : -1);
      });
    }
  }

  // Where a head stands, with column spans of a head of two rows counted.
  function column(table, head) {
    const [top, low] = table.tHead.rows;
    if (head.parentNode === top) {
      return [...top.cells].slice(0, head.cellIndex).reduce((sum, cell) => sum + cell.colSpan, 0);
    }
    return [...top.cells].filter((cell) => cell.rowSpan > 1).length + [...low.cells].indexOf(head);
  }

  // Groups stay together in their order; what has no value stands last.
  function sort(table, index, kind, sign) {
    const value = (row) => {
      const cell = row.cells[index];
      const held = cell ? cell.dataset.value || "" : "";
      if (kind === "text") return held.toLowerCase();
      return held === "" ? NaN : Number(held);
    };
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (kind === "text") return sign * x.localeCompare(y, "en");
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return sign * (x - y);
    };
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
      body.append(...rows.sort(compare));
    }
  }

  // ---- Examples ------------------------------------------------------------------------------
  const PAGE = 10;
  const TONE = { correct: "good", missed: "danger", "false alarm": "danger", unscored: "caution" };
  const WORD = { true: "violated", false: "not violated", null: "unknown" };

  function browse({ names, rows: examples }) {
    const form = document.getElementById("filters");
    const cards = document.getElementById("cards");
    const more = document.getElementById("more");
    const count = document.getElementById("count");
    let shown = PAGE;

    const values = {
      outcome: (one) => [one.outcome],
      dimension: (one) => one.dimensions,
      domain: (one) => one.domains,
      target: (one) => [one.target],
      condition: (one) => [one.condition],
    };
    for (const [name, of] of Object.entries(values)) {
      const select = form.elements[name];
      const held = [...new Set(examples.flatMap(of))].sort((a, b) => a.localeCompare(b, "en"));
      for (const value of held) select.append(element("option", { value, text: names[value] || value }));
      if (held.length < 2) select.closest("label").hidden = true;
    }

    const chosen = () => {
      const words = form.elements.text.value.trim().toLowerCase();
      return examples.filter(
        (one) =>
          Object.entries(values).every(([name, of]) => {
            const wanted = form.elements[name].value;
            return !wanted || of(one).includes(wanted);
          }) &&
          (!words || [one.prompt, one.response, one.sent, one.item_id].some((text) => text.toLowerCase().includes(words))),
      );
    };
    const show = () => {
      const found = chosen();
      cards.replaceChildren(...found.slice(0, shown).map((one) => card(one, names)));
      more.hidden = found.length <= shown;
      const part = Math.min(shown, found.length);
      count.textContent = found.length ? `${part} of ${found.length} shown` : "No example fits these filters";
    };
    form.addEventListener("input", () => { shown = PAGE; show(); });
    form.addEventListener("reset", () => setTimeout(() => { shown = PAGE; show(); }));
    form.addEventListener("submit", (event) => event.preventDefault());
    more.addEventListener("click", () => { shown += PAGE; show(); });
    form.hidden = false;
    show();
  }

  function card(one, names) {
    const kind = one.misaligned ? "misaligned response" : "aligned response";
    const header = element(
      "header", {},
      element("span", { class: `badge ${TONE[one.outcome]}`, text: one.outcome }),
      element("h3", { text: kind }),
      element("span", { text: `judged by ${names[one.target]}`, title: one.target, class: "wrap" }),
    );
    if (one.condition !== "joint") header.append(element("span", { class: "badge", text: `asked about ${one.condition} only` }));
    if (one.own) header.append(element("span", { class: "badge", text: "own item" }));
    const made = element("article", { class: "card", "data-outcome": one.outcome, "data-target": one.target }, header);
    if (one.prompt || one.response) {
      made.append(element("div", { class: "texts" }, quoted("Prompt", one.prompt), quoted("Response", one.response)));
    } else {
      made.append(quoted(one.sent ? "Sent to the target" : "Text", one.sent || "Not at hand: give the data set's folder to the report too."));
    }
    made.append(verdicts(one));
    const facts = [
      `item ${one.item_id}`, one.generator && `by ${one.generator}`, one.domains.join(", "),
      one.split, `epoch ${one.epoch + 1}`, one.framing && `framing ${one.framing.replace(/_/g, " ")}`, `run ${one.run}`,
    ];
    made.append(element("p", { class: "meta", text: facts.filter(Boolean).join(" · ") }));
    const raw = one.raw.filter(Boolean);
    if (raw.length) {
      made.append(element("details", {}, element("summary", { text: "Raw answer" }),
        element("pre", { class: "text", tabindex: "0", dir: "auto", text: raw.join("\n") })));
    }
    return made;
  }

  function quoted(title, text) {
    return element("div", {}, element("h4", { text: title }),
      element("p", { class: "text", tabindex: "0", dir: "auto", text }));
  }

  function verdicts(one) {
    const head = element("tr");
    for (const name of ["Dimension", "Truth", "Verdict", "Score", "Reason", "Journal key"]) {
      head.append(element("th", { scope: "col", text: name }));
    }
    const body = element("tbody");
    for (const said of one.said) {
      const joint = said.dimension === "joint";
      const truth = joint ? (said.truth ? "misaligned" : "aligned") : WORD[String(said.truth)];
      body.append(element(
        "tr", {},
        element("th", { scope: "row" }, element("span", { class: `swatch ${said.dimension}`, text: said.dimension })),
        element("td", { text: truth }),
        element("td", { text: said.verdict, class: wrong(said) ? "wrong" : null }),
        element("td", {}, ...score(said)),
        element("td", { class: "wrap", dir: "auto", text: said.reason.replace(/_/g, said.verdict === "unscored" ? " " : "_") }),
        element("td", {}, joint ? "" : element("code", { class: "key", title: said.journal_key, text: said.journal_key.slice(0, 12) })),
      ));
    }
    const table = element("table", {}, element("thead", {}, head), body);
    return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Verdict by dimension" }, table);
  }

  const wrong = ({ truth, verdict }) => verdict === (truth ? "passed" : "flagged") && truth !== null;

  // A bar of the probability with a tick at the threshold, and both as numbers.
  function score({ score, threshold }) {
    if (score === null) return ["—"];
    const space = "http://www.w3.org/2000/svg";
    const shape = (tag, attributes) => {
      const made = document.createElementNS(space, tag);
      for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
      return made;
    };
    const meter = shape("svg", { class: "meter", viewBox: "0 0 84 14", "aria-hidden": "true" });
    const over = threshold !== null && score > threshold;
    meter.append(
      shape("rect", { class: "track", x: 0, y: 4, width: 84, height: 6, rx: 3 }),
      shape("rect", { class: over ? "over" : "fill", x: 0, y: 4, width: 84 * score, height: 6, rx: 3 }),
    );
    if (threshold === null) return [meter, score.toFixed(3)];
    meter.append(shape("line", { class: "threshold", x1: 84 * threshold, x2: 84 * threshold, y1: 0, y2: 14 }));
    return [meter, `${score.toFixed(3)} ${over ? ">" : "≤"} ${threshold.toFixed(3)}`];
  }

  // --------------------------------------------------------------------------------------------
  theme();
  document.querySelectorAll("table.sortable").forEach(sortable);
  if (document.getElementById("examples")) browse(data("data-examples"));
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((one) => { one.open = true; });
  });
  const charts = data("data-charts");
  if (charts.length && window.vegaEmbed) draw(charts);
})();
