// What moves on the page is started here: charts, sorting, the theme, the examples.
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

function start() {
  theme();
  document.querySelectorAll("table.sortable").forEach(sortable);
  const box = document.getElementById("grouped");
  if (box) grouping(document.getElementById("leaderboard-table"), box);
  if (document.getElementById("examples")) examples(data("data-examples"));
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((one) => { one.open = true; });
  });
  const charts = data("data-charts");
  if (charts.length && window.vegaEmbed) draw(charts);
}

function examples(held) {
  const store = held.nonce ? folderStore(held.nonce) : Promise.resolve(embeddedStore(held));
  store.then(browse).then(
    () => document.documentElement.setAttribute("data-examples", "shown"),
    (error) => { document.getElementById("count").textContent = error.message; },
  );
}

start();
