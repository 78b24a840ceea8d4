// A click on the head of a column sorts its table; another click turns the order round.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const keyOf = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (a, b) => {
    const numbers = [Number(a), Number(b)];
    const areNumbers = a !== "" && b !== "" && !numbers.some(Number.isNaN);
    return areNumbers ? numbers[0] - numbers[1] : a.localeCompare(b);
  };
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const falls = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falls ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => (falls ? -1 : 1) * compare(keyOf(a, column), keyOf(b, column)));
      table.tBodies[0].append(...rows);
    });
  });
}
