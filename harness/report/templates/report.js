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
