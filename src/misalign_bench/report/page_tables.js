// Tables that sort by a column, and a leaderboard whose groups can be joined.
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
      sortBy(table, head);
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

// By the column of a head, in the order that it says.
function sortBy(table, head) {
  const sign = head.getAttribute("aria-sort") === "ascending" ? 1 : -1;
  sort(table, column(table, head), head.dataset.sort, sign);
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
  for (const body of table.tBodies) body.append(...rows(body).sort(compare));
}

// One body for all rows, or one per category again; the order within is that of the last sorting.
function grouping(table, box) {
  const bodies = [...table.tBodies];
  const home = new Map(bodies.flatMap((body) => rows(body).map((row) => [row, body])));
  box.closest(".switch").hidden = false;
  box.addEventListener("change", () => {
    const held = bodies.flatMap(rows);
    for (const row of held) (box.checked ? home.get(row) : bodies[0]).append(row);
    for (const head of table.querySelectorAll("tr.group")) head.hidden = !box.checked;
    const sorted = table.querySelector('th[aria-sort="ascending"], th[aria-sort="descending"]');
    if (sorted) sortBy(table, sorted);
  });
}

function rows(body) {
  return [...body.rows].filter((row) => !row.classList.contains("group"));
}
