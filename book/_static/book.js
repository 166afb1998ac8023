// Tables that sort and unfold, and pictures in full size. Without this script all rows and pictures are there as well.
"use strict";

(() => {
  const IN_VIEW = 25; // rows, as in the library's book/tables.py

  const element = (tag, attributes = {}, text = "") => {
    const made = Object.assign(document.createElement(tag), { textContent: text });
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };

  // Rows beyond those in view are folded away; a repeated row header is blank, but for the first row in view.
  const arrange = (body) => {
    let above = [];
    [...body.rows].forEach((row, place) => {
      row.classList.toggle("more", place >= IN_VIEW);
      const heads = [...row.querySelectorAll("th")];
      let same = true;
      heads.forEach((head, level) => {
        same = same && above[level] === head.textContent;
        head.classList.toggle("again", same && level < heads.length - 1);
      });
      above = heads.map((head) => head.textContent);
    });
  };

  // What a cell is sorted by: its number, or its text; gaps are last both ways.
  const compare = (one, other, numeric, sign) => {
    if (!numeric) return sign * one.textContent.localeCompare(other.textContent, "en", { numeric: true });
    const [a, b] = [one, other].map((cell) => cell.dataset.value);
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return sign * (Number(a) - Number(b)) || 0;
  };

  const makeSortable = (table) => {
    const [body, line] = [table.tBodies[0], table.tHead.rows[table.tHead.rows.length - 1]];
    if (body.rows.length < 2) return;
    const heads = [...line.cells];
    heads.forEach((head, column) => {
      if (!head.textContent) return;
      const button = element("button", { type: "button", class: "sort" }, head.textContent);
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const numeric = head.classList.contains("num");
        const cell = (row) => row.cells[column];
        body.append(...[...body.rows].sort((one, other) => compare(cell(one), cell(other), numeric, down ? -1 : 1)));
        arrange(body);
      });
    });
  };

  const makeFoldable = (figure, table) => {
    const rows = table.tBodies[0].rows.length;
    if (rows <= IN_VIEW) return;
    const button = element("button", { type: "button" });
    const fold = (folded) => {
      figure.classList.toggle("folded", folded);
      button.textContent = folded ? `show all ${rows} rows` : `show the first ${IN_VIEW} rows`;
      button.setAttribute("aria-expanded", String(!folded));
    };
    button.addEventListener("click", () => fold(!figure.classList.contains("folded")));
    fold(true);
    figure.querySelector(".below").prepend(button);
  };

  // The words that a table goes on to the right, where it does.
  const hint = (scroll) => {
    const said = element("p", { class: "hint", "aria-hidden": "true" }, "scrolls sideways →");
    said.hidden = true;
    scroll.before(said);
    new ResizeObserver(() => { said.hidden = scroll.scrollWidth <= scroll.clientWidth + 1; }).observe(scroll);
  };

  const lightbox = () => {
    const dialog = element("dialog", { class: "lightbox" });
    const close = element("button", { type: "button", class: "close", "aria-label": "close" }, "×");
    const held = element("div", { class: "held", tabindex: "0" });
    const said = element("p");
    dialog.append(close, held, said);
    dialog.addEventListener("click", (event) => { if (event.target !== said) dialog.close(); });
    document.body.append(dialog);
    return (image, title, caption) => {
      held.replaceChildren(Object.assign(image.cloneNode(), { loading: "eager" }));
      dialog.setAttribute("aria-label", `${title}, full size`);
      said.textContent = caption;
      dialog.showModal();
    };
  };

  document.addEventListener("DOMContentLoaded", () => {
    let open = null;
    for (const figure of document.querySelectorAll("figure.exhibit")) {
      const [table, image] = [figure.querySelector("table"), figure.querySelector(".picture img")];
      if (table) {
        makeSortable(table);
        makeFoldable(figure, table);
        hint(figure.querySelector(".scroll"));
      }
      if (image) {
        const title = figure.querySelector(".anchor").textContent;
        const button = element("button", { type: "button", "aria-label": `${title}, full size` }, "full size");
        const caption = figure.querySelector("figcaption").cloneNode(true);
        caption.querySelector(".below").remove();
        const show = () => (open ??= lightbox())(image, title, caption.textContent.trim());
        image.addEventListener("click", show);
        button.addEventListener("click", show);
        figure.querySelector(".below").prepend(button);
      }
    }
    addEventListener("beforeprint", () => { // a source that is folded away cannot be read on paper
      document.querySelectorAll("details.source").forEach((each) => { each.open = true; });
    });
  });
})();
