// Where examples come from: a block in this page, or data files beside it. Both give the index, and
// a promise of one example; a file that is not there is an error that names it.
const KEPT = 24; // data files held in memory

function embeddedStore(held) {
  const words = ({ row }) => {
    const one = held.rows[row];
    return [one.prompt, one.response, one.sent, one.item_id];
  };
  return {
    index: held.index,
    words,
    loaded: ({ row }) => held.rows[row],
    example: ({ row }) => Promise.resolve(held.rows[row]),
  };
}

async function folderStore(nonce) {
  const waiting = new Map();
  const files = new Map();
  // What a data file calls: its name, and its content as one JSON text.
  window.misalignBench = (name, text) => waiting.get(name)?.(JSON.parse(text));

  function load(name, path) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      const end = () => { waiting.delete(name); script.remove(); };
      waiting.set(name, (value) => { end(); resolve(value); });
      const fail = () => { end(); reject(new Error(`${path} cannot be read; it must lie beside this page.`)); };
      script.onerror = fail;
      script.onload = () => { if (waiting.has(name)) fail(); };
      script.nonce = nonce;
      script.src = path;
      document.head.append(script);
    });
  }

  // The file that was used last stands last; the first goes when there are too many.
  function file(number) {
    const name = String(number);
    const held = files.get(name) || { promise: load(name, `data-${name.padStart(4, "0")}.js`), rows: null };
    files.delete(name);
    files.set(name, held);
    held.promise.then((rows) => { held.rows = rows; }, () => files.delete(name));
    if (files.size > KEPT) files.delete(files.keys().next().value);
    return held;
  }

  return {
    index: await load("index", "data-index.js"),
    words: ({ title, item }) => [title, item],
    loaded: ({ file: number, row }) => files.get(String(number))?.rows?.[row],
    example: ({ file: number, row }) => file(number).promise.then((rows) => rows[row]),
  };
}
