// The annotation form: shows one reply at a time, keeps answers in this browser, saves them as JSON.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { items, dimensions } = data;
  const ANSWERS = { y: "yes", n: "no", u: "unsure" };
  const place = (name) => document.getElementById(name);
  const sets = dimensions.map((name) => document.querySelector(`[data-dimension="${name}"]`));
  const stored = `misalign-bench-audit-${data.audit}`;
  const state = restored();
  let current = 0;
  let marked = 0;

  // What an earlier visit left, as far as it is about this sample.
  function restored() {
    const fresh = { annotator: "", labels: {} };
    try {
      const held = JSON.parse(localStorage.getItem(stored) || "{}");
      if (typeof held.annotator === "string") fresh.annotator = held.annotator.slice(0, 60);
      const known = new Set(items.map((item) => item.id));
      for (const [id, label] of Object.entries(held.labels || {})) {
        if (!known.has(id)) continue;
        const kept = {};
        for (const name of dimensions) {
          if (Object.values(ANSWERS).includes(label[name])) kept[name] = label[name];
        }
        if (typeof label.note === "string" && label.note) kept.note = label.note.slice(0, 500);
        fresh.labels[id] = kept;
      }
    } catch {
      return { annotator: "", labels: {} };
    }
    return fresh;
  }

  function keep() {
    try {
      localStorage.setItem(stored, JSON.stringify(state));
    } catch {
      warn("This browser keeps nothing: save the file before you close the form.");
    }
  }

  function warn(text) {
    place("warning").textContent = text;
    place("warning").hidden = !text;
  }

  const labelOf = (item) => (state.labels[item.id] ??= {});
  const isDone = (item) => dimensions.every((name) => (state.labels[item.id] || {})[name]);

  function show(number) {
    current = Math.min(items.length - 1, Math.max(0, number));
    const item = items[current];
    const label = state.labels[item.id] || {};
    place("place").textContent = `Reply ${current + 1} of ${items.length}`;
    place("prompt").textContent = item.prompt;
    place("response").textContent = item.response;
    place("note").value = label.note || "";
    sets.forEach((set, index) => {
      for (const box of set.querySelectorAll("input")) {
        box.checked = box.value === label[dimensions[index]];
      }
    });
    mark(Math.max(0, dimensions.findIndex((name) => !label[name])));
    count();
  }

  function mark(number) {
    marked = number;
    sets.forEach((set, index) => set.classList.toggle("marked", index === marked));
  }

  function count() {
    const done = items.filter(isDone).length;
    place("progress").textContent = `${done} of ${items.length} labelled`;
    place("bar").value = done;
  }

  function answer(index, value) {
    labelOf(items[current])[dimensions[index]] = value;
    for (const box of sets[index].querySelectorAll("input")) box.checked = box.value === value;
    keep();
    count();
  }

  function answerByKey(value) {
    const wasDone = isDone(items[current]);
    answer(marked, value);
    if (!wasDone && isDone(items[current]) && current < items.length - 1) {
      show(current + 1);
      window.scrollTo(0, 0);
    } else {
      mark(Math.min(dimensions.length - 1, marked + 1));
    }
  }

  function firstOpen() {
    const open = items.findIndex((item) => !isDone(item));
    show(open < 0 ? items.length - 1 : open);
  }

  function save() {
    const name = place("annotator").value.trim();
    if (!name) {
      warn("Give your name or initials first: the file says whose labels these are.");
      place("annotator").focus();
      return;
    }
    warn("");
    const labels = items
      .filter((item) => state.labels[item.id] && Object.keys(state.labels[item.id]).length)
      .map((item) => ({ id: item.id, ...state.labels[item.id] }));
    const file = { format: data.format, audit: data.audit, annotator: name, labels };
    const blob = new Blob([JSON.stringify(file, null, 1) + "\n"], { type: "application/json" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `labels-${name.replace(/[^\p{L}\p{N}_-]+/gu, "-")}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    place("said").textContent = `${labels.length} replies saved as ${link.download}`;
  }

  sets.forEach((set, index) => {
    set.addEventListener("change", (event) => answer(index, event.target.value));
    set.addEventListener("focusin", () => mark(index));
  });
  place("answers").addEventListener("submit", (event) => event.preventDefault());
  place("note").addEventListener("input", (event) => {
    const label = labelOf(items[current]);
    if (event.target.value) label.note = event.target.value;
    else delete label.note;
    keep();
  });
  place("annotator").addEventListener("input", (event) => {
    state.annotator = event.target.value;
    keep();
  });
  place("previous").addEventListener("click", () => show(current - 1));
  place("next").addEventListener("click", () => show(current + 1));
  place("open").addEventListener("click", firstOpen);
  place("save").addEventListener("click", save);
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=radio])");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    if (ANSWERS[key]) answerByKey(ANSWERS[key]);
    else if (key >= "1" && key <= String(dimensions.length)) mark(Number(key) - 1);
    else if (key === "j") show(current + 1);
    else if (key === "k") show(current - 1);
    else if (key === "g") firstOpen();
    else if (key === "s") save();
    else return;
    event.preventDefault();
  });

  place("annotator").value = state.annotator;
  if (items.length) firstOpen();
  document.documentElement.dataset.ready = "yes";
})();
