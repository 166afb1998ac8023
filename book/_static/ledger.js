// The ledger of claims: filters by paper and verdict that the address keeps, an order, and cases that open where a link leads.
(() => {
  "use strict";

  function start() {
    const bar = document.querySelector(".ledger-filters");
    if (!bar) return;
    const list = document.querySelector(".ledger-claims");
    const claims = [...list.children];
    const cases = [...document.querySelectorAll(".ledger-cases")];
    const buttons = [...bar.querySelectorAll("button")];
    const order = bar.querySelector("select");
    const count = bar.querySelector("output");
    const words = [...bar.querySelectorAll("[data-filter=verdict]")].map((button) => button.dataset.value);
    const chosen = { paper: "", verdict: "" };

    const fits = (claim, wanted) => Object.entries(wanted).every(([name, value]) => !value || claim.dataset[name] === value);

    function show() {
      claims.forEach((claim) => { claim.hidden = !fits(claim, chosen); });
      const left = new Set(claims.filter((claim) => !claim.hidden).map((claim) => claim.id.slice("claim-".length)));
      cases.forEach((part) => { part.hidden = !left.has(part.dataset.claim); });
      buttons.forEach((button) => {
        const { filter, value } = button.dataset;
        button.setAttribute("aria-pressed", String(chosen[filter] === value));
        const wanted = { ...chosen, [filter]: value };
        button.lastElementChild.textContent = claims.filter((claim) => fits(claim, wanted)).length;
      });
      count.textContent = `${left.size} of ${claims.length} claims shown`;
    }

    function remember() {
      const said = Object.entries(chosen).filter(([, value]) => value).map(([name, value]) => `${name}=${value}`);
      history.replaceState(null, "", said.length ? `#${said.join("&")}` : location.pathname + location.search);
    }

    function sort() {
      const keys = {
        "": () => 0,
        verdict: (claim) => words.indexOf(claim.dataset.verdict),
        p: (claim) => (claim.dataset.p === "" ? 2 : Number(claim.dataset.p)),
        cases: (claim) => -Number(claim.dataset.cases),
      };
      const key = keys[order.value];
      list.append(...[...claims].sort((a, b) => key(a) - key(b)));
    }

    // What the address asks for: "#paper=P1&verdict=fails", or a claim or its cases, which then are shown whatever the filter.
    function follow() {
      const asked = location.hash.slice(1);
      if (/^(paper|verdict)=/.test(asked)) {
        const given = new URLSearchParams(asked);
        for (const name of Object.keys(chosen)) {
          const value = given.get(name) || "";
          chosen[name] = buttons.some(({ dataset }) => dataset.filter === name && dataset.value === value) ? value : "";
        }
        show();
        return;
      }
      const target = document.getElementById(asked);
      if (!target || !target.closest(".ledger")) return;
      if (target.hidden) {
        chosen.paper = chosen.verdict = "";
        show();
      }
      if (target.matches("details")) target.open = true;
      target.scrollIntoView();
    }

    bar.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      chosen[button.dataset.filter] = button.dataset.value;
      show();
      remember();
    });
    order.addEventListener("change", sort);
    addEventListener("hashchange", follow);
    // A link to where the address already points changes no hash.
    document.addEventListener("click", (event) => {
      const link = event.target.closest('.ledger a[href^="#"]');
      if (link && link.getAttribute("href") === location.hash) follow();
    });
    let folded = [];
    addEventListener("beforeprint", () => {
      folded = [...document.querySelectorAll(".ledger details:not([open])")];
      folded.forEach((part) => { part.open = true; });
    });
    addEventListener("afterprint", () => folded.forEach((part) => { part.open = false; }));

    bar.hidden = false;
    cases.forEach((part) => { part.open = false; });
    show();
    follow();
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
