// How Sphinx's search ranks what it finds: chapters, then other prose, then the API; first what has the words in its title.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false; // a page on disk may read no other

const asked = (new URLSearchParams(location.search).get("q") ?? "").trim().toLowerCase();
var Scorer = {
  score: ([page, title, , , score]) => {
    if (page === "api" || page.startsWith("api/")) return score - 1000;
    const chapter = page.match(/^notebooks\/(\d+)_/);
    const place = chapter ? 1000 - chapter[1] / 100 : 0; // of two as good, the earlier one
    return score + place + (title.toLowerCase().includes(asked) ? 100 : 0);
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
