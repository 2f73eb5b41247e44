// Elements and texts. Texts of models and users are only ever set as text, never as markup.
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
