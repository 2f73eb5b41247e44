// The examples: a list of all that fit the filters, of which only the rows in view are in the page,
// and beside it the one that was chosen.
const ROW = 58; // pixels, as in page_examples.css
const SPARE = 6; // rows above and below the view
const PRINTED = 10;

function browse(store) {
  const form = document.getElementById("filters");
  const list = document.getElementById("list");
  const cards = document.getElementById("cards");
  const count = document.getElementById("count");
  const inner = list.firstElementChild;
  const { values, columns } = store.index;
  const names = new Map(values.target.map((name, number) => [name, store.index.names[number]]));
  const all = store.index.rows.map((held) => named(held, columns, values));
  let found = [];
  let active = 0;
  let asked = 0;

  const filters = {
    outcome: (one) => [one.outcome],
    dimension: (one) => one.dimensions,
    domain: (one) => one.domains,
    target: (one) => [one.target],
    condition: (one) => [one.condition],
  };
  for (const [name, of] of Object.entries(filters)) fillSelect(form.elements[name], all, of, names);

  function choose() {
    const words = form.elements.text.value.trim().toLowerCase();
    const wanted = Object.entries(filters).filter(([name]) => form.elements[name].value);
    found = all.filter(
      (one) =>
        wanted.every(([name, of]) => of(one).includes(form.elements[name].value)) &&
        (!words || store.words(one).some((text) => text.toLowerCase().includes(words))),
    );
    const of = found.length === all.length ? "" : ` of ${all.length.toLocaleString("en")}`;
    count.textContent = found.length
      ? `${found.length.toLocaleString("en")}${of} examples`
      : "No example fits these filters";
    inner.style.height = `${found.length * ROW}px`;
    list.scrollTop = 0;
    active = 0;
    show();
    open();
  }

  // Only the rows in view, and some around them.
  function show() {
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - SPARE);
    const last = Math.min(found.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + SPARE);
    const made = [];
    for (let place = first; place < last; place += 1) {
      const row = option(found[place], names, place, found.length, place === active);
      row.style.top = `${place * ROW}px`;
      made.push(row);
    }
    inner.replaceChildren(...made);
    if (found.length) list.setAttribute("aria-activedescendant", `example-${active}`);
    else list.removeAttribute("aria-activedescendant");
  }

  function open() {
    asked += 1;
    const mine = asked;
    if (!found.length) return cards.replaceChildren();
    return store.example(found[active]).then(
      (one) => { if (mine === asked) cards.replaceChildren(card(one, names)); },
      (error) => {
        if (mine === asked) cards.replaceChildren(element("p", { class: "failed", role: "alert", text: error.message }));
      },
    );
  }

  function move(to) {
    active = Math.max(0, Math.min(found.length - 1, to));
    const [top, bottom] = [active * ROW, (active + 1) * ROW - list.clientHeight];
    if (list.scrollTop > top) list.scrollTop = top;
    if (list.scrollTop < bottom) list.scrollTop = bottom;
    show();
    open();
  }

  const steps = () => ({
    ArrowDown: active + 1,
    ArrowUp: active - 1,
    PageDown: active + Math.floor(list.clientHeight / ROW),
    PageUp: active - Math.floor(list.clientHeight / ROW),
    Home: 0,
    End: found.length - 1,
  });
  list.addEventListener("keydown", (event) => {
    if (event.key === "Enter") return cards.querySelector("[tabindex]")?.focus();
    if (event.altKey || event.ctrlKey || event.metaKey || !(event.key in steps())) return undefined;
    event.preventDefault();
    return move(steps()[event.key]);
  });
  list.addEventListener("click", (event) => {
    const row = event.target.closest("[role=option]");
    if (!row) return;
    move(Number(row.dataset.place));
    if (window.matchMedia("(max-width: 60rem)").matches) cards.scrollIntoView({ block: "start" });
  });
  list.addEventListener("scroll", show, { passive: true });
  new ResizeObserver(show).observe(list);
  form.addEventListener("input", choose);
  form.addEventListener("reset", () => setTimeout(choose));
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("beforeprint", () => {
    const there = found.slice(0, PRINTED).map(store.loaded).filter(Boolean);
    cards.replaceChildren(...there.map((one) => card(one, names)));
    cards.querySelectorAll("details").forEach((one) => { one.open = true; });
  });
  window.addEventListener("afterprint", open);
  form.hidden = false;
  list.parentElement.hidden = false;
  choose();
}

// A row of the index with its numbers turned into what they stand for.
function named(held, columns, values) {
  const one = Object.fromEntries(columns.map((name, place) => [name, held[place]]));
  return {
    ...one,
    outcome: values.outcome[one.outcome],
    target: values.target[one.target],
    condition: values.condition[one.condition],
    dimensions: one.dimensions.map((number) => values.dimension[number]),
    domains: one.domains.map((number) => values.domain[number]),
  };
}

function fillSelect(select, all, of, names) {
  const held = [...new Set(all.flatMap(of))].sort((a, b) => a.localeCompare(b, "en"));
  for (const value of held) select.append(element("option", { value, text: names.get(value) || value }));
  if (held.length < 2) select.closest("label").hidden = true;
}

function option(one, names, place, size, selected) {
  const facts = [one.misaligned ? "misaligned" : "aligned", names.get(one.target)];
  if (one.condition !== "joint") facts.push(`${one.condition} only`);
  return element(
    "div",
    {
      role: "option", id: `example-${place}`, "data-place": place, "aria-selected": selected,
      "aria-setsize": size, "aria-posinset": place + 1, "data-outcome": one.outcome, "data-target": one.target,
    },
    element("div", { class: "row-head" },
      element("span", { class: `badge ${TONE[one.outcome]}`, text: one.outcome }),
      element("span", { class: "row-facts", text: facts.join(" · ") })),
    element("div", { class: "row-title", dir: "auto", text: one.title || one.item }),
  );
}
