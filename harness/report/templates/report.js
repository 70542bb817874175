"use strict";
// Sorts and filters the table of inputs; without this script the table is complete, in the order of the inputs.
(() => {
  const table = document.getElementById("inputs-table");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const form = document.getElementById("filters");
  const text = document.getElementById("filter-text");
  const changed = document.getElementById("filter-changed");
  const selects = Array.from(form.querySelectorAll("select"));
  const rank = (row, column) => Number(row.cells[column].dataset.rank);
  const sets = (row) => Array.from(row.cells).slice(1).map((cell) => cell.dataset.set || "");

  const ranges = () => text.value.split(/[\s,;]+/).filter(Boolean).map((part) => {
    const found = /^(\d+)(?:[-–](\d+))?$/.exec(part);
    return found ? [Number(found[1]), Number(found[2] || found[1])] : [NaN, NaN];
  });

  function filter() {
    const wanted = ranges();
    let shown = 0;
    for (const row of rows) {
      const index = rank(row, 0);
      const mine = sets(row);
      const keep = (!wanted.length || wanted.some(([low, high]) => low <= index && index <= high))
        && selects.every((select) => !select.value || mine[Number(select.dataset.column)] === select.value)
        && (!changed.checked || new Set(mine).size > 1);
      row.hidden = !keep;
      shown += Number(keep);
    }
    document.getElementById("filter-count").value = `${shown} of ${rows.length} inputs`;
  }

  function sort(column, header) {
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sign = down ? -1 : 1;
    rows.sort((a, b) => sign * (rank(a, column) - rank(b, column)) || rank(a, 0) - rank(b, 0));
    body.append(...rows);
  }

  Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    button.addEventListener("click", () => sort(column, header));
    header.replaceChildren(button);
  });
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  filter();
})();
// What is folded away on the screen is printed.
(() => {
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = Array.from(document.querySelectorAll("details:not([open])"));
    for (const one of opened) one.open = true;
  });
  window.addEventListener("afterprint", () => { for (const one of opened) one.open = false; });
})();
// The strip: tells which input the pointer or the arrow keys are on, and draws its image and counterexamples.
(() => {
  const strip = document.getElementById("strip");
  const drawing = strip.querySelector("svg");
  const given = strip.dataset;
  const columns = Number(given.columns), width = Number(given.width);
  const cellHeight = Number(given.height) * Number(given.networks), pitch = cellHeight + 5;
  const table = document.getElementById("inputs-table");
  const lines = Array.from(table.tBodies[0].rows).sort((a, b) => a.cells[0].dataset.rank - b.cells[0].dataset.rank);
  const titles = Array.from(table.tHead.rows[0].cells).slice(1).map((cell) => cell.textContent);
  const pictures = JSON.parse(document.getElementById("pictures").textContent);
  const card = document.getElementById("card"), text = document.getElementById("card-text");
  const shown = document.getElementById("card-pictures");
  const mark = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  mark.setAttribute("class", "mark");
  let current = -1, sheet = null;

  if (pictures.sprite) {
    const image = new Image();
    image.addEventListener("load", () => {
      sheet = document.createElement("canvas");
      sheet.width = image.width;
      sheet.height = image.height;
      sheet.getContext("2d", {willReadFrequently: true}).drawImage(image, 0, 0);
      if (current >= 0) show(current);
    });
    image.src = pictures.sprite;
  }

  function pixels(index) {
    const [, height, width] = pictures.shape;
    const x = (index % pictures.columns) * width, y = Math.floor(index / pictures.columns) * height;
    return sheet.getContext("2d").getImageData(x, y, width, height);
  }

  function differences(key) {
    const packed = pictures.differences[key];
    if (!packed) return null;
    const bytes = atob(packed), [channels, height, width] = pictures.shape;
    const values = new Int8Array(channels * height * width);
    for (let k = 0; k < values.length; k += 1) {
      const byte = bytes.charCodeAt(k >> 1);
      values[k] = (k % 2 ? byte & 15 : byte >> 4) - 8;
    }
    return values;
  }

  function changed(image, values, amplified) {
    const [channels, height, width] = pictures.shape, plane = height * width;
    const scale = amplified ? 127 / pictures.levels : 255 * pictures.eps / pictures.levels;
    const result = new ImageData(width, height);
    for (let k = 0; k < plane; k += 1) {
      for (let c = 0; c < 3; c += 1) {
        const step = values[(channels === 1 ? 0 : c) * plane + k] * scale;
        result.data[4 * k + c] = (amplified ? 128 : image.data[4 * k + c]) + step;
      }
      result.data[4 * k + 3] = 255;
    }
    return result;
  }

  function picture(data, words) {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    canvas.width = data.width;
    canvas.height = data.height;
    canvas.getContext("2d").putImageData(data, 0, 0);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", words);
    caption.textContent = words;
    figure.append(canvas, caption);
    shown.append(figure);
  }

  function show(position) {
    current = Math.max(0, Math.min(lines.length - 1, position));
    const row = lines[current], index = Number(row.cells[0].dataset.rank);
    const label = pictures.labels && index < pictures.labels.length ? pictures.names[pictures.labels[index]] : "";
    document.getElementById("card-title").textContent = `Input ${index}${label ? `, ${label}` : ""}`;
    text.replaceChildren(...titles.map((title, k) => {
      const line = document.createElement("p"), cell = row.cells[k + 1];
      line.textContent = `${title}: ${cell.textContent.trim()}${cell.title ? ` (${cell.title})` : ""}`;
      return line;
    }));
    for (const line of lines) line.classList.toggle("current", line === row);
    shown.replaceChildren();
    if (sheet && label) {
      const image = pixels(index);
      picture(image, "image");
      titles.forEach((title, k) => {
        const values = differences(`${k}:${index}`);
        if (values) {
          picture(changed(image, values, true), `difference, amplified: ${title}`);
          picture(changed(image, values, false), `counterexample: ${title}`);
        }
      });
    }
    mark.setAttribute("x", (current % columns) * width);
    mark.setAttribute("y", Math.floor(current / columns) * pitch);
    mark.setAttribute("width", width - 1);
    mark.setAttribute("height", cellHeight);
    drawing.append(mark);
    card.hidden = false;
  }

  function at(event) {
    const box = drawing.getBoundingClientRect(), scale = drawing.viewBox.baseVal.width / box.width;
    const column = Math.floor((event.clientX - box.left) * scale / width);
    const position = Math.floor((event.clientY - box.top) * scale / pitch) * columns + column;
    return column >= 0 && column < columns && position < lines.length ? position : -1;
  }

  if (!lines.length) return;
  const steps = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -Infinity, End: Infinity};
  strip.addEventListener("pointermove", (event) => { const k = at(event); if (k >= 0 && k !== current) show(k); });
  strip.addEventListener("click", (event) => { const k = at(event); if (k >= 0) show(k); });
  strip.addEventListener("focus", () => { if (current < 0) show(0); });
  strip.addEventListener("keydown", (event) => {
    if (event.key in steps) {
      event.preventDefault();
      const next = current + steps[event.key];
      if (Math.abs(next) === Infinity || (next >= 0 && next < lines.length)) show(next);
    }
  });
  table.tBodies[0].addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (!row) return;
    show(lines.indexOf(row));
    card.scrollIntoView({block: "nearest"});
  });
})();
