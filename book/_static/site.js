"use strict";
// Around the text of every page: references where they are cited, all of a page on paper, names that the theme forgot.

// A citation, pointed at or focused, shows its reference. Sphinx writes that into the link's title.
const showReferences = () => {
  const box = document.createElement("div");
  box.className = "reference-box";
  box.id = "reference-box";
  box.setAttribute("role", "tooltip");
  box.hidden = true;
  document.body.append(box);
  let shown = null;
  let waiting = 0;
  const hide = () => {
    clearTimeout(waiting);
    shown?.removeAttribute("aria-describedby");
    shown = null;
    box.hidden = true;
  };
  const hideSoon = () => {
    waiting = setTimeout(hide, 200); // time to move onto the box
  };
  const show = (link) => {
    hide();
    shown = link;
    box.textContent = link.dataset.reference;
    box.hidden = false;
    link.setAttribute("aria-describedby", box.id);
    const at = link.getClientRects()[0];
    const room = document.documentElement.clientWidth - box.offsetWidth - 8;
    box.style.left = `${scrollX + Math.max(8, Math.min(at.left, room))}px`;
    const above = at.top - box.offsetHeight - 6;
    box.style.top = `${scrollY + (above > 60 ? above : at.bottom + 6)}px`; // the theme's bar covers the top
  };
  for (const link of document.querySelectorAll('main a.reference[href*="bibliography.html#"][title]')) {
    link.dataset.reference = link.title;
    link.removeAttribute("title");
    link.addEventListener("mouseenter", () => show(link));
    link.addEventListener("focus", () => show(link));
    link.addEventListener("mouseleave", hideSoon);
    link.addEventListener("blur", hide);
  }
  box.addEventListener("mouseenter", () => clearTimeout(waiting));
  box.addEventListener("mouseleave", hideSoon);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
};

// On paper nothing is folded, and the colours are those of the light theme.
const printWhole = () => {
  const root = document.documentElement;
  let opened = [];
  let theme;
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("main details:not([open])")];
    for (const fold of opened) fold.open = true;
    theme = root.dataset.theme;
    root.dataset.theme = "light";
  });
  addEventListener("afterprint", () => {
    for (const fold of opened) fold.open = false;
    root.dataset.theme = theme;
  });
};

// What the theme and Sphinx leave unnamed, wrongly named, or out of the keyboard's reach.
const mendTheme = () => {
  for (const summary of document.querySelectorAll(".bd-links summary")) {
    const page = summary.closest("li").querySelector("a").textContent.trim();
    summary.setAttribute("aria-label", `Pages below ${page}`);
  }
  for (const node of document.querySelectorAll(".citation-list, .citation")) node.removeAttribute("role");
  for (const block of document.querySelectorAll("main :is(.highlight pre, div.math)")) {
    if (block.scrollWidth > block.clientWidth) block.tabIndex = 0;
  }
};

document.addEventListener("DOMContentLoaded", () => {
  showReferences();
  printWhole();
});
addEventListener("load", mendTheme);
