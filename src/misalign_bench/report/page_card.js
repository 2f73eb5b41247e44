// One example: prompt, response, and what was said about it.
const TONE = { correct: "good", missed: "danger", "false alarm": "danger", unscored: "caution" };
const WORD = { true: "violated", false: "not violated", null: "unknown" };

function card(one, names) {
  const kind = one.misaligned ? "misaligned response" : "aligned response";
  const header = element(
    "header", {},
    element("span", { class: `badge ${TONE[one.outcome]}`, text: one.outcome }),
    element("h3", { text: kind }),
    element("span", { text: `judged by ${names.get(one.target)}`, title: one.target, class: "wrap" }),
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
